"""Secrets Manager: the text under which tokens are signed."""

from chalicelib.aws.clients import Clients
from chalicelib.aws.errors import turning


def secret_text(clients: Clients, arn: str) -> str:
    """The secret's text. One call in the life of a process."""
    with turning():
        return str(clients["secretsmanager"].get_secret_value(SecretId=arn)["SecretString"])
