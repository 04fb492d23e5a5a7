"""Whatever a caller sends, the answer is 4xx in our shape and the agent lives on."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import STATUS
from agent.routes import ROUTES
from tests.agent.running import Answer, Client

BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"unknown": 1}',
    b'{"id": 1, "path": 2, "command": 3, "code": {}, "paths": 4, "url": [], "source": {}, "set": 1, "files": 1, "env": 1}',
    b'{"id": "a\\u0000b", "path": "a\\u0000b", "command": "a\\u0000b", "code": "a\\u0000b", "paths": ["a\\u0000b"]}',
    b'{"id": "\\ud800", "path": "\\ud800", "command": "\\ud800", "code": "\\ud800", "paths": ["\\ud800"]}',
    b'{"id": "", "path": "", "command": "", "code": null, "paths": [], "command": []}',
    b'{"path": "'
    + b"x/" * 5000
    + b'", "id": "'
    + b"x" * 5000
    + b'", "command": ["'
    + b"x" * 300_000
    + b'"], "cols": 1e999}',
]
TAKES_ANYTHING = {"/health", "/proxy/{port}/*", "/files/upload", "/files/content"}
MAY_BE_EMPTY = {"/env"}


def calls() -> list[tuple[str, str]]:
    rows = [
        (row.method, row.path) for row in ROUTES if row.path not in TAKES_ANYTHING and row.method not in ("GET", "HEAD")
    ]
    return [(method, path.replace("{id}", "here").replace("{command}", "there")) for method, path in rows]


def refused(reply: Answer) -> bool:
    return 400 <= reply.status < 500 and STATUS[reply.json["error"]] == reply.status and bool(reply.json["message"])


@pytest.fixture
def furnished(client: Client) -> Any:
    """So that the calls below a session or a terminal get as far as their bodies."""
    client.post("/sessions", {"id": "here"})
    client.post("/sessions/here/commands", {"command": "sleep 100", "wait": False, "command_id": "there"})
    client.post("/terminals", {"id": "here", "command": ["/bin/cat"]})
    yield client
    client.delete("/sessions/here")
    client.delete("/terminals/here")


@pytest.mark.parametrize(("method", "path"), calls())
def test_hostile_bodies_are_refused(furnished: Client, method: str, path: str) -> None:
    if method == "DELETE" and not path.startswith("/git"):
        assert refused(furnished.ask(method, path.replace("here", "nobody")))
        return
    for body in BODIES:
        reply = furnished.ask(method, path, body)
        allowed = (path in MAY_BE_EMPTY or path.endswith(("/kill", "/input"))) and not body
        assert allowed or refused(reply), (body[:100], reply.status, reply.body[:300])
    assert furnished.get("/health").status == 200


@pytest.mark.parametrize(("method", "path"), calls())
def test_a_body_over_the_limit_is_413(client: Client, method: str, path: str) -> None:
    if (method == "DELETE" and not path.startswith("/git")) or path.startswith(("/sessions/", "/terminals/")):
        path = "/exec"
        method = "POST"
    huge = json.dumps({"path": "x" * (16 * 1024 * 1024)}).encode()

    declared = client.ask(method, path, huge)
    streamed = client.ask(method, path, iter([b" " * 1024 * 1024] * 17))

    assert (declared.status, declared.json["error"]) == (413, "too_large")
    assert streamed.status == 413


QUERIES = [
    "",
    "?path=",
    "?path=%00",
    "?path=a%00b",
    "?path=" + "x" * 5000,
    "?path=" + "y/" * 5000,
    "?unknown=1",
    "?path=no-such",
    "?path=x&depth=-1",
    "?path=x&depth=1e9",
    "?path=x&limit=99999999999999999999",
]


@pytest.mark.parametrize(
    "path", sorted({row.path for row in ROUTES if row.method == "GET" and row.path.startswith(("/files", "/git"))})
)
def test_hostile_queries_are_refused(client: Client, path: str) -> None:
    for query in QUERIES:
        reply = client.get(path + query)
        whole = path in ("/files", "/git/config") and query in ("", "?path=")
        assert whole or refused(reply), (query[:100], reply.status, reply.body[:300])


@pytest.mark.parametrize(
    "target",
    [
        "//",
        "/files/../health",
        "/files%2Finfo",
        "/sessions/%00",
        "/sessions/" + "x" * 5000,
        "/%ff%fe",
        "/sessions/a/b/c/d/e",
        "/forward/1",
    ],
)
def test_unknown_targets_are_404(client: Client, target: str) -> None:
    reply = client.get(target)

    assert (reply.status, reply.json["error"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/proc/kcore", "pipe", "."])
def test_what_is_no_regular_file_is_not_read_for_ever(client: Client, home: Path, path: str) -> None:
    client.exec("mkfifo pipe", cwd=str(home))

    assert refused(client.get("/files/content", path=f"{home}/{path}" if path in ("pipe", ".") else path))
    assert client.ask("PUT", "/files/content", b"x", path=f"{home}/{path}").status in (
        (400,) if path in ("pipe", ".") else (200,)
    )
