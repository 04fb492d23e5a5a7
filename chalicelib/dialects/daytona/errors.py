"""Daytona's two shapes for an error: the control plane's and the toolbox's, told apart by the path."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from chalicelib.core import errors
from chalicelib.core.errors import Refused
from chalicelib.dialect import Request

STATUSES: Mapping[type[Refused] | str, int] = {
    # A 5xx is a fault of the server to Daytona's clients, and these are none.
    errors.Unsupported: 400,
    "full": 400,
    "quota": 403,  # as Daytona has it; a 429 would have its SDKs wait and ask again, which makes no room
    "gone": 410,
    "git_auth": 401,
}
"""Where Daytona's status is not the usual one: by our error, or by the agent's code."""

TOOLBOX = "/toolbox/"
SOURCE = "DAYTONA_DAEMON"

CODES: Mapping[str, str] = {
    "invalid": "BAD_REQUEST",
    "unauthorized": "UNAUTHORIZED",
    "forbidden": "FORBIDDEN",
    "not_found": "NOT_FOUND",
    "timeout": "TIMEOUT",
    "conflict": "CONFLICT",
    "gone": "GONE",
    "too_large": "PAYLOAD_TOO_LARGE",
    "busy": "TOO_MANY_REQUESTS",
    "full": "NO_SPACE_LEFT",
    "git_auth": "GIT_AUTH_FAILED",
}
"""The toolbox's code for each of the agent's, wherever it happens."""

PRECISE: Mapping[tuple[str, str], str] = {
    ("files", "not_found"): "FILE_NOT_FOUND",
    ("files", "forbidden"): "FILE_ACCESS_DENIED",
    ("process/execute", "timeout"): "PROCESS_EXECUTION_TIMEOUT",
    ("process/code-run", "timeout"): "PROCESS_EXECUTION_TIMEOUT",
    ("process/session", "timeout"): "PROCESS_EXECUTION_TIMEOUT",
    ("process/session", "gone"): "SESSION_ENDED",
    ("git/checkout", "not_found"): "GIT_BRANCH_NOT_FOUND",
    ("git/branches", "not_found"): "GIT_BRANCH_NOT_FOUND",
    ("git", "not_found"): "GIT_REPO_NOT_FOUND",
    ("git/branches", "conflict"): "GIT_BRANCH_EXISTS",
    ("git/branches", "git_conflict"): "GIT_BRANCH_EXISTS",
    ("git/push", "git_conflict"): "GIT_PUSH_REJECTED",
    ("git/checkout", "git_conflict"): "GIT_DIRTY_WORKTREE",
    ("git", "git_conflict"): "GIT_MERGE_CONFLICT",
}
"""Codes that newer SDKs turn into exceptions of their own, by the beginning of the path and the agent's code."""

TIMED_OUT = "command execution timeout"


def error(refused: Refused, status: int, request: Request) -> Mapping[str, Any]:
    """The body of a refusal."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if request.path.startswith(TOOLBOX):
        return _toolbox(refused, status, request, now)
    return {
        "statusCode": status,
        "timestamp": now,
        "path": f"/daytona{request.path}",
        "error": _phrase(status),
        "message": refused.message,
    }


def _toolbox(refused: Refused, status: int, request: Request, now: str) -> Mapping[str, Any]:
    code = _code(request.path, str(refused.details.get("code", "")), status)
    timed_out = code == "PROCESS_EXECUTION_TIMEOUT"
    said = {"output": refused.details["answer"].get("output", "")} if timed_out else {}
    return {
        "statusCode": status,
        "message": f"{TIMED_OUT}: {refused.message}" if timed_out else refused.message,
        "code": code,
        "source": SOURCE,
        "timestamp": now,
        "path": f"/daytona{request.path}",
        "method": request.method,
        **said,
    }


def _code(path: str, agents: str, status: int) -> str:
    below = path.removeprefix(TOOLBOX).partition("/")[2].removeprefix("toolbox/")
    fitting = [area for area, word in PRECISE if word == agents and f"{below}/".startswith(f"{area}/")]
    if fitting:
        return PRECISE[max(fitting, key=len), agents]
    return CODES.get(agents, _phrase(status).upper().replace(" ", "_"))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
