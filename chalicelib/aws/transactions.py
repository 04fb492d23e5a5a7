"""Transactions in DynamoDB: several rows, all or none, in one call."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pynamodb.connection import Connection
from pynamodb.exceptions import TransactWriteError
from pynamodb.transactions import TransactWrite

from chalicelib.aws.errors import turning
from chalicelib.core.errors import Refused, Unavailable

TRIES = 14
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.3  # seconds: all tries together wait for at most about three
FAILED = "ConditionalCheckFailed"
CONTENDED = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


@dataclass(frozen=True)
class Part:
    """One row of a transaction, and what it means where its condition does not hold or somebody else is writing to it.

    What `failed` returns may be None: try again. So is a row that others may write to and that has no meaning for it.
    """

    write: Callable[[TransactWrite], object]
    failed: Refused | Callable[[], Refused | None] | None = None
    contended: Refused | None = None


def transact(connection: Connection, parts: Sequence[Part]) -> None:
    """Write all parts or none; the refusal of the first of them that is in the way.

    Rows that many write to at once, such as an organization's, are tried again a number of times.
    """
    for attempt in range(TRIES):
        try:
            with turning(), TransactWrite(connection=connection) as write:
                for part in parts:
                    part.write(write)
        except TransactWriteError as problem:
            if refusal := _refusal(problem, parts):
                raise refusal from problem
        else:
            return
        time.sleep(random.uniform(0, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)))  # noqa: S311 - no secret
    raise Unavailable("too many write to this organization at once; ask again")


def _refusal(problem: TransactWriteError, parts: Sequence[Part]) -> Refused | None:
    """What the transaction was cancelled for. What nobody expected goes on as it is."""
    reasons = [(reason.code, part) for reason, part in zip(problem.cancellation_reasons, parts, strict=False) if reason]
    if not reasons or any(code not in CONTENDED and not (code == FAILED and part.failed) for code, part in reasons):
        raise problem
    meanings = (part.contended if code in CONTENDED else _asked(part.failed) for code, part in reasons)
    return next((meaning for meaning in meanings if meaning), None)


def _asked(failed: Refused | Callable[[], Refused | None] | None) -> Refused | None:
    return failed() if callable(failed) else failed
