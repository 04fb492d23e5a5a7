"""Git in a folder of the sandbox."""

from chalicelib.dialect import (
    Body,
    Needed,
    Relay,
    Route,
    Shape,
    boolean,
    each,
    from_text,
    list_of,
    some_text,
    text,
    whole,
)
from chalicelib.dialects.daytona.fields import not_offered

LONGEST_HISTORY = 10_000

PATH: Body = {"path": Needed("path", some_text)}
CREDENTIALS: Body = {"username": ("username", text), "password": ("password", text)}
TLS: Body = {"insecure_skip_tls": ("", not_offered("certificates are always checked", but=(False,)))}
REMOTE: Body = {"remote": ("remote", text), "branch": ("branch", text)}

CLONE: Body = {
    **PATH,
    **CREDENTIALS,
    **TLS,
    "url": Needed("url", some_text),
    "branch": ("branch", text),
    "commit_id": ("commit", text),
    "depth": ("", not_offered("a shallow clone is not offered")),
}
ADD: Body = {**PATH, "files": Needed("files", list_of(some_text))}
COMMIT: Body = {
    **PATH,
    "message": Needed("message", text),
    "author": Needed("author", some_text),
    "email": Needed("email", some_text),
    "allow_empty": ("allow_empty", boolean),
}
PUSH: Body = {**PATH, **CREDENTIALS, **TLS, **REMOTE, "set_upstream": ("set_upstream", boolean)}
PULL: Body = {**PATH, **CREDENTIALS, **TLS, **REMOTE}
CHECKOUT: Body = {**PATH, "branch": Needed("branch", some_text)}
BRANCH: Body = {**PATH, "name": Needed("name", some_text)}
HISTORY: Body = {**PATH, "limit": ("limit", from_text(whole(1, LONGEST_HISTORY)))}

CHANGED: Shape = {"name": "name", "staging": "staging", "worktree": "worktree", "extra": "extra"}
STATUS: Shape = {
    "currentBranch": "branch",
    "fileStatus": lambda status, call: each(CHANGED)(status["files"], call),
    "ahead": "ahead",
    "behind": "behind",
    "branchPublished": "published",
}
MADE: Shape = {"hash": "hash", "message": "message", "author": "author", "email": "email", "timestamp": "timestamp"}


def _asked(path: str) -> Relay:
    return Relay("GET", path, send="query")


def _told(path: str, method: str = "POST") -> Relay:
    return Relay(method, path, receive="nothing")


ROWS = (
    Route("POST", "/git/clone", _told("/git/clone"), body=CLONE),
    Route("GET", "/git/status", _asked("/git/status"), STATUS, query=PATH),
    Route("GET", "/git/branches", _asked("/git/branches"), {"branches": "branches", "current": "current"}, query=PATH),
    Route("POST", "/git/branches", _told("/git/branches"), body=BRANCH, status=201),
    Route("DELETE", "/git/branches", _told("/git/branches", "DELETE"), body=BRANCH, status=204),
    Route("POST", "/git/add", _told("/git/add"), body=ADD),
    Route("POST", "/git/commit", Relay("POST", "/git/commit"), {"hash": "hash"}, COMMIT),
    Route("POST", "/git/checkout", _told("/git/checkout"), body=CHECKOUT),
    Route("POST", "/git/push", _told("/git/push"), body=PUSH),
    Route("POST", "/git/pull", _told("/git/pull"), body=PULL),
    Route(
        "GET",
        "/git/history",
        _asked("/git/history"),
        lambda found, call: each(MADE)(found["commits"], call),
        query=HISTORY,
    ),
)
