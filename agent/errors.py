"""What the agent refuses with: a code, its status, and a sentence that the caller may read."""

import errno
from typing import Any

STATUS = {
    "invalid": 400,
    "git_failed": 400,
    "unauthorized": 401,
    "git_auth": 401,
    "forbidden": 403,
    "not_found": 404,
    "timeout": 408,
    "conflict": 409,
    "git_conflict": 409,
    "gone": 410,
    "too_large": 413,
    "unsupported": 415,
    "unsatisfiable": 416,
    "busy": 429,
    "failed": 500,
    "unreachable": 502,
    "full": 507,
}

_SYSTEM = {
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.EROFS: "forbidden",
    errno.ENOENT: "not_found",
    errno.ENXIO: "invalid",
    errno.ENOTDIR: "invalid",
    errno.EISDIR: "invalid",
    errno.ELOOP: "invalid",
    errno.EINVAL: "invalid",
    errno.ENAMETOOLONG: "invalid",
    errno.ENOTEMPTY: "invalid",
    errno.EXDEV: "invalid",
    errno.EEXIST: "conflict",
    errno.EBUSY: "conflict",
    errno.ETXTBSY: "conflict",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    errno.EMFILE: "busy",
    errno.ENFILE: "busy",
    errno.EAGAIN: "busy",
}


class Refusal(Exception):
    """The request ends here. `extra` fields join code and message in the body."""

    def __init__(self, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.extra = code, message, extra

    @property
    def status(self) -> int:
        return STATUS[self.code]

    def body(self) -> dict[str, Any]:
        return {"error": self.code, "message": self.message, **self.extra}


def from_system(problem: OSError) -> Refusal:
    """The refusal that an operating system's error amounts to."""
    code = _SYSTEM.get(problem.errno or 0, "failed")
    where = f"{named(problem.filename)}: " if problem.filename is not None else ""
    return Refusal(code, f"{where}{problem.strerror or problem}.")


def named(path: str | bytes | int) -> str:
    """A path as it may stand in a sentence: its undecodable bytes become question marks, its length is bounded."""
    text = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
    return text.encode("utf-8", "replace").decode("utf-8")[:500]
