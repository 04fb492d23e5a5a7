"""Files: listed, found, changed, and carried in and out as streams."""

from typing import Any

from chalicelib.dialect import (
    Body,
    Call,
    Needed,
    Pick,
    Relay,
    Route,
    Shape,
    each,
    from_text,
    list_of,
    some_text,
    text,
    whole,
)
from chalicelib.dialects.daytona.clients import JSON_FILE_ERRORS, release
from chalicelib.dialects.daytona.fields import flag

DEEPEST = 100

FILE: Shape = {
    "name": "name",
    "path": "path",
    "isDir": "is_dir",
    "size": "size",
    "modTime": "modified_at",
    "modifiedAt": "modified_at",
    "mode": "mode",
    "permissions": "permissions",
    "owner": "owner",
    "group": "group",
}
MATCH: Shape = {"file": "path", "line": "line", "content": "content"}
REPLACED: Shape = {"file": "path", "success": "success", "error": "error"}


def here(value: Any) -> str:
    """A path; empty is the work dir, as absent is."""
    return text(value) or "."


PATH: Body = {"path": Needed("path", some_text)}
LIST: Body = {"path": ("path", here), "depth": ("depth", from_text(whole(1, DEEPEST)))}
FIND: Body = {**PATH, "pattern": Needed("pattern", some_text)}
REPLACE: Body = {
    "files": Needed("paths", list_of(some_text)),
    "pattern": Needed("pattern", some_text),
    "newValue": Needed("replacement", text),
}
FOLDER: Body = {**PATH, "mode": Needed("mode", some_text)}
MOVE: Body = {"source": Needed("source", some_text), "destination": Needed("destination", some_text)}
PERMISSIONS: Body = {**PATH, "owner": ("owner", text), "group": ("group", text), "mode": ("mode", text)}
DELETE: Body = {**PATH, "recursive": ("recursive", flag)}

UPLOAD = Relay("POST", "/files/upload", send="stream", receive="nothing")
CONTENT = Relay("GET", "/files/content", send="query", receive="stream")


def download(call: Call) -> Relay:
    """Many files in one reply. What goes wrong with one of them is told in the form that this generation reads."""
    form = "json" if release(call.request) >= JSON_FILE_ERRORS else "text"
    return Relay("POST", f"/files/download?errors={form}", receive="stream")


def _asked(path: str) -> Relay:
    return Relay("GET", path, send="query")


def _told(path: str) -> Relay:
    return Relay("POST", path, receive="nothing")


ROWS = (
    Route("GET", "/files", _asked("/files"), lambda found, call: each(FILE)(found["entries"], call), query=LIST),
    Route("DELETE", "/files", Relay("DELETE", "/files", send="query", receive="nothing"), query=DELETE, status=204),
    Route("GET", "/files/info", _asked("/files/info"), FILE, query=PATH),
    Route("GET", "/files/download", CONTENT, query=PATH),
    Route("POST", "/files/upload", UPLOAD, query=PATH),
    Route("POST", "/files/bulk-upload", UPLOAD),
    Route("POST", "/files/bulk-download", Pick(download), body={"paths": Needed("paths", list_of(some_text))}),
    Route("POST", "/files/folder", _told("/files/folder"), query=FOLDER, status=201),
    Route("POST", "/files/move", _told("/files/move"), query=MOVE),
    Route("POST", "/files/permissions", _told("/files/permissions"), query=PERMISSIONS),
    Route("GET", "/files/find", _asked("/files/find"), lambda out, call: each(MATCH)(out["matches"], call), query=FIND),
    Route("GET", "/files/search", _asked("/files/search"), {"files": "paths"}, query=FIND),
    Route(
        "POST",
        "/files/replace",
        Relay("POST", "/files/replace"),
        lambda done, call: each(REPLACED)(done["results"], call),
        REPLACE,
    ),
)
