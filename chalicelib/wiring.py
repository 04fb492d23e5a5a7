"""Builds the World from the environment, once a process, when it is first needed. Alone joins the core and AWS.

| variable | what it says |
|---|---|
| SANDBAR_TABLES | what the names of the tables begin with |
| SANDBAR_SECRET | the text under which tokens are signed |
| SANDBAR_SECRET_ARN | or else the secret in Secrets Manager that holds it |
| SANDBAR_BUCKET | the bucket of the checkpoints |
| SANDBAR_CLUSTER | the ECS cluster of the sandboxes |
| SANDBAR_WORKFLOWS | what the ARNs of the state machines begin with |
| SANDBAR_URL | the one address, which callers know |
| SANDBAR_CONTROL | where agents find the control plane; by default the same |
| SANDBAR_QUOTA | what an organization without a quota of its own may have at once, as JSON: `{"sandboxes": 10, "cpu": 20}` |
| SANDBAR_AUDIT_DAYS | how long the audit log is kept, by default 90 days |
| SANDBAR_WARM | how many machines of the default image and size are kept warm; by default none |
"""

import functools
import json
import os
from dataclasses import replace
from datetime import timedelta

from chalicelib.core.amounts import Amounts
from chalicelib.core.limits import fitting
from chalicelib.core.pools import Pool
from chalicelib.core.quotas import DEFAULT
from chalicelib.core.sandbox import Size
from chalicelib.core.world import Settings, World

SHORTEST_SECRET = 32


@functools.cache
def world() -> World:
    """The World of this process."""
    # Imported here: botocore takes longer to import than everything else together.
    from chalicelib.aws.agents import HttpAgents
    from chalicelib.aws.audit import DynamoAudit
    from chalicelib.aws.blobs import S3Blobs
    from chalicelib.aws.clients import Clients
    from chalicelib.aws.clock import SystemClock
    from chalicelib.aws.keys import DynamoKeys
    from chalicelib.aws.machines import EcsMachines
    from chalicelib.aws.organizations import DynamoOrganizations
    from chalicelib.aws.sandboxes import DynamoSandboxes
    from chalicelib.aws.secret import secret_text
    from chalicelib.aws.tables import open_tables
    from chalicelib.aws.workflows import StepFunctions

    clients, url = Clients(), os.environ["SANDBAR_URL"].rstrip("/")
    tables = open_tables(os.environ["SANDBAR_TABLES"], clients)
    clock = SystemClock()
    audit = DynamoAudit(tables, clock, kept=timedelta(days=int(os.environ.get("SANDBAR_AUDIT_DAYS") or 90)))
    organizations = DynamoOrganizations(tables, audit, default=_quota(os.environ.get("SANDBAR_QUOTA") or "{}"))
    return World(
        sandboxes=DynamoSandboxes(tables, organizations, audit),
        keys=DynamoKeys(tables, audit),
        workflows=StepFunctions(
            clients, machines=os.environ["SANDBAR_WORKFLOWS"], control=os.environ.get("SANDBAR_CONTROL") or url
        ),
        machines=EcsMachines(clients, cluster=os.environ["SANDBAR_CLUSTER"]),
        blobs=S3Blobs(clients, bucket=os.environ["SANDBAR_BUCKET"]),
        agents=HttpAgents(),
        organizations=organizations,
        audit=audit,
        clock=clock,
        settings=Settings(
            secret=_long_enough(
                os.environ.get("SANDBAR_SECRET") or secret_text(clients, os.environ["SANDBAR_SECRET_ARN"])
            ),
            url=url,
            pools=_pools(int(os.environ.get("SANDBAR_WARM") or 0)),
        ),
    )


def _quota(said: str) -> Amounts:
    return replace(DEFAULT, **json.loads(said))


def _pools(count: int) -> tuple[Pool, ...]:
    return (Pool(image=Settings.default_image, size=fitting(Size()), count=count),) if count else ()


def _long_enough(secret: str) -> bytes:
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(f"the secret has {len(secret)} characters; tokens are signed under at least {SHORTEST_SECRET}")
    return secret.encode()
