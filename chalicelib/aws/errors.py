"""AWS's errors turned into ours, by their codes."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

from chalicelib.core.errors import Refused, TooLarge, Unavailable

BUSY = frozenset(
    {
        "InternalServerError",
        "InternalServerException",
        "InternalError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServerException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Codes that say: not now, perhaps later."""


@contextmanager
def turning(**ours: Refused) -> Iterator[None]:
    """Raise ours for the AWS codes named, `Unavailable` for overload and lost connections, and all else as it came."""
    try:
        yield
    except (ClientError, BotoCoreError, PynamoDBException) as problem:
        refusal = _ours(problem, ours)
        if refusal is None:
            raise
        raise refusal from problem


def _ours(problem: Exception, ours: dict[str, Refused]) -> Refused | None:
    cause = getattr(problem, "cause", None) or problem
    if not isinstance(cause, ClientError):
        silent = isinstance(cause, BotoCoreError)
        return Unavailable("AWS does not answer just now; ask again") if silent else None
    for code in [*_reasons(problem), cause.response["Error"]["Code"]]:
        if code in ours:
            return ours[code]
        if code in BUSY:
            return Unavailable(f"AWS is busy ({code}); ask again")
    too_large = "size has exceeded" in cause.response["Error"].get("Message", "")
    return TooLarge("the sandbox's description is longer than what is kept for one") if too_large else None


def _reasons(problem: Exception) -> list[str]:
    """Why a transaction was cancelled: a code for each part that was in the way, numbered: ConditionalCheckFailed_1."""
    reasons = getattr(problem, "cancellation_reasons", ())
    return [f"{reason.code}_{n}" for n, reason in enumerate(reasons) if reason]
