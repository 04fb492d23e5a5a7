"""Transactions in DynamoDB: several rows, all or none, in one call."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pynamodb.connection import Connection
from pynamodb.exceptions import TransactWriteError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.models import Model
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

    What `failed` returns may be None: try again. So is a row that others may write to and that has no meaning for it. A
    condition that is a function is asked anew at each try.
    """

    verb: Literal["delete", "save", "update"]
    row: Model
    condition: Condition | Callable[[], Condition | None] | None = None
    actions: Sequence[Action] = ()
    failed: Refused | Callable[[], Refused | None] | None = None
    contended: Refused | None = None


VERBS = ("delete", "save", "update")
"""In the order in which PynamoDB sends the rows, in which the reasons of a refusal come back."""


def transact(connection: Connection, parts: Iterable[Part]) -> None:
    """Write all parts or none; the refusal of the first of them that is in the way.

    Rows that many write to at once, such as an organization's, are tried again a number of times.
    """
    ordered = sorted(parts, key=lambda part: VERBS.index(part.verb))
    for attempt in range(TRIES):
        try:
            with turning(), TransactWrite(connection=connection) as write:
                for part in ordered:
                    _add(write, part)
        except TransactWriteError as problem:
            if refusal := _refusal(problem, ordered):
                raise refusal from problem
        else:
            return
        time.sleep(random.uniform(0, min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)))  # noqa: S311 - no secret
    raise Unavailable("too many write to this organization at once; ask again")


def _add(write: TransactWrite, part: Part) -> None:
    condition = part.condition() if callable(part.condition) else part.condition
    if part.verb == "update":
        write.update(part.row, list(part.actions), condition)
    else:
        getattr(write, part.verb)(part.row, condition)


def _refusal(problem: TransactWriteError, parts: Sequence[Part]) -> Refused | None:
    """What the transaction was cancelled for. What nobody expected goes on as it is."""
    reasons = [(reason.code, part) for reason, part in zip(problem.cancellation_reasons, parts, strict=False) if reason]
    if not reasons or any(code not in CONTENDED and not (code == FAILED and part.failed) for code, part in reasons):
        raise problem
    meanings = (part.contended if code in CONTENDED else _asked(part.failed) for code, part in reasons)
    return next((meaning for meaning in meanings if meaning), None)


def _asked(failed: Refused | Callable[[], Refused | None] | None) -> Refused | None:
    return failed() if callable(failed) else failed
