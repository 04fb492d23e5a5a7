"""What an agent's refusals are to the core (docs/AGENT.md, Errors). Whoever talks to agents reads them with this table."""

from collections.abc import Mapping
from typing import Any

from chalicelib.core import errors
from chalicelib.core.errors import Refused, Unavailable

REFUSALS: Mapping[str, type[Refused]] = {
    "invalid": errors.Invalid,
    "unauthorized": errors.Unavailable,  # our token is not its token: another machine has this address now
    "forbidden": errors.Forbidden,
    "not_found": errors.NotFound,
    "timeout": errors.TimedOut,
    "conflict": errors.Conflict,
    "gone": errors.Conflict,
    "too_large": errors.TooLarge,
    "unsupported": errors.Unsupported,
    "unsatisfiable": errors.Invalid,
    "busy": errors.LimitReached,
    "failed": errors.Unavailable,
    "full": errors.LimitReached,
    "unreachable": errors.Unavailable,
    "git_auth": errors.Forbidden,
    "git_conflict": errors.Conflict,
    "git_failed": errors.Invalid,
}

LONGEST_MESSAGE = 4096


def from_agent(answer: Any, status: int) -> Refused:
    """The error that an agent's answer of 400 or above is. Its details have the agent's `code` and whole `answer`.

    An agent is as trustworthy as what runs beside it: nothing but the type of the error is decided by what it says.
    """
    said = answer if isinstance(answer, Mapping) else {}
    code = str(said.get("error", ""))[:64]
    message = str(said.get("message") or f"the sandbox answered with status {status}")[:LONGEST_MESSAGE]
    return REFUSALS.get(code, Unavailable)(message, code=code, answer=said)
