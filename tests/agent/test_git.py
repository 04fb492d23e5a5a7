"""git on a caller's behalf, against a real git and a real HTTP server that asks for a password."""

import base64
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.running import Agent, Client

WHO = {"author": "Ann Author", "email": "ann@example.com"}


@pytest.fixture
def repository(client: Client, home: Path) -> str:
    """A repository with one commit."""
    path = str(home / "repo")
    client.post("/git/init", {"path": path})
    (Path(path) / "first.txt").write_text("one\n")
    client.post("/git/add", {"path": path, "files": ["."]})
    client.post("/git/commit", {"path": path, "message": "First\n\nBody", **WHO})
    return path


class _Backend(http.server.BaseHTTPRequestHandler):
    """git http-backend behind a password."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def _serve(self) -> None:
        expected = "Basic " + base64.b64encode(b"ann:s3cret").decode()
        if self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length else self._chunks()
        env = {**os.environ, "GIT_PROJECT_ROOT": self.server.root, "GIT_HTTP_EXPORT_ALL": "1"}  # type: ignore[attr-defined]
        env |= {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "ann"}
        env |= {"CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body))}
        env |= {"HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", "")}
        said = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True).stdout
        head, _, rest = said.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest)

    def _chunks(self) -> bytes:
        body = b""
        while self.headers.get("Transfer-Encoding") and (size := int(self.rfile.readline(), 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    do_GET = do_POST = _serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "served.git"], check=True)
    subprocess.run(["git", "-C", tmp_path / "served.git", "config", "http.receivepack", "true"], check=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
    server.root = str(tmp_path)  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/served.git"
    server.shutdown()
    server.server_close()


def test_a_commit_is_in_the_history(client: Client, repository: str) -> None:
    made = client.post("/git/commit", {"path": repository, "message": "Second", "allow_empty": True, **WHO})

    history = client.get("/git/history", path=repository, limit=10).json["commits"]

    assert [entry["message"] for entry in history] == ["Second", "First\n\nBody"]
    assert history[0]["hash"] == made.json["hash"]
    assert (history[0]["author"], history[0]["email"]) == ("Ann Author", "ann@example.com")


def test_status_tells_staging_from_worktree(client: Client, repository: str) -> None:
    root = Path(repository)
    (root / "first.txt").write_text("two\n")
    (root / "new name").write_text("new\n")
    (root / "staged").write_text("staged\n")
    client.post("/git/add", {"path": repository, "files": ["staged"]})

    status = client.get("/git/status", path=repository).json

    assert (status["branch"], status["published"]) == ("main", False)
    assert {entry["name"]: (entry["staging"], entry["worktree"]) for entry in status["files"]} == {
        "first.txt": ("Unmodified", "Modified"),
        "new name": ("Untracked", "Untracked"),
        "staged": ("Added", "Unmodified"),
    }


def test_a_rename_names_its_origin(client: Client, repository: str) -> None:
    client.exec("git mv first.txt second.txt", cwd=repository)

    files = client.get("/git/status", path=repository).json["files"]

    assert files == [{"name": "second.txt", "staging": "Renamed", "worktree": "Unmodified", "extra": "first.txt"}]


def test_branches_come_and_go(client: Client, repository: str) -> None:
    client.post("/git/branches", {"path": repository, "name": "side"})
    client.post("/git/checkout", {"path": repository, "branch": "other", "create": True})

    assert client.get("/git/branches", path=repository).json == {
        "branches": ["main", "other", "side"],
        "current": "other",
    }
    assert client.delete("/git/branches", {"path": repository, "name": "side"}).status == 200
    assert client.get("/git/branches", path=repository).json["branches"] == ["main", "other"]


def test_reset_and_restore_undo(client: Client, repository: str) -> None:
    file = Path(repository) / "first.txt"
    file.write_text("changed\n")
    client.post("/git/add", {"path": repository, "files": ["first.txt"]})

    client.post("/git/restore", {"path": repository, "files": ["first.txt"], "staged": True})
    assert client.get("/git/status", path=repository).json["files"][0]["worktree"] == "Modified"

    client.post("/git/reset", {"path": repository, "mode": "hard"})
    assert file.read_text() == "one\n"


def test_remotes_and_config(client: Client, repository: str) -> None:
    remote = {"path": repository, "name": "up", "url": "https://example.com/a.git"}

    assert client.post("/git/remotes", remote).status == 200
    assert client.post("/git/remotes", remote).status == 409
    assert client.post("/git/remotes", {**remote, "url": "https://example.com/b.git", "overwrite": True}).status == 200
    assert client.get("/git/remotes", path=repository).json == {
        "remotes": [{"name": "up", "url": "https://example.com/b.git"}]
    }
    assert client.delete("/git/remotes", {"path": repository, "name": "up"}).status == 200
    assert client.post("/git/config", {"path": repository, "key": "user.name", "value": "Bea"}).status == 200
    assert client.get("/git/config", path=repository, key="user.name").json["value"] == "Bea"
    assert client.get("/git/config", path=repository, key="user.nothing").json["value"] is None


def test_a_password_reaches_the_server_and_no_disk(
    client: Client, agent: Agent, repository: str, server: str, home: Path
) -> None:
    secret = {"username": "ann", "password": "s3cret"}
    client.post("/git/remotes", {"path": repository, "name": "origin", "url": server})

    pushed = client.post("/git/push", {"path": repository, "set_upstream": True, **secret})
    cloned = client.post("/git/clone", {"url": server, "path": str(home / "clone"), **secret})
    pulled = client.post("/git/pull", {"path": str(home / "clone"), **secret})

    assert [reply.status for reply in (pushed, cloned, pulled)] == [200, 200, 200], (
        pushed.body,
        cloned.body,
        pulled.body,
    )
    assert client.get("/git/status", path=str(home / "clone")).json["published"] is True
    assert client.exec(f"grep -r s3cret {agent.root}").json["exit_code"] == 1
    assert "s3cret" not in agent.log.read_text()


def test_credentials_in_the_address_do_not_stay_in_it(client: Client, repository: str, server: str, home: Path) -> None:
    client.post("/git/push", {"path": repository, "remote": server, "username": "ann", "password": "s3cret"})

    address = server.replace("http://", "http://ann:s3cret@")
    cloned = client.post("/git/clone", {"url": address, "path": str(home / "clone")})

    assert cloned.status == 200, cloned.body
    assert "s3cret" not in (home / "clone/.git/config").read_text()


@pytest.mark.parametrize("secret", [{}, {"username": "ann", "password": "wrong"}])
def test_a_wrong_password_is_401(client: Client, server: str, home: Path, secret: dict[str, str]) -> None:
    reply = client.post("/git/clone", {"url": server, "path": str(home / "clone"), **secret})

    assert (reply.status, reply.json["error"]) == (401, "git_auth")


@pytest.mark.parametrize(
    ("call", "body", "status", "code"),
    [
        ("clone", {"url": "/nowhere/at/all", "path": "x"}, 404, "not_found"),
        ("clone", {"url": "--upload-pack=touch /tmp/x", "path": "x"}, 400, "invalid"),
        ("checkout", {"path": "REPO", "branch": "missing"}, 404, "not_found"),
        ("checkout", {"path": "REPO", "branch": "main", "create": True}, 409, "git_conflict"),
        ("add", {"path": "REPO", "files": ["missing"]}, 404, "not_found"),
        ("add", {"path": "no-such-folder", "files": ["x"]}, 404, "not_found"),
        ("commit", {"path": "REPO", "message": "Nothing", **WHO}, 400, "git_failed"),
        ("reset", {"path": "REPO", "mode": "sideways"}, 400, "invalid"),
    ],
)
def test_failures_have_gits_words(
    client: Client, repository: str, call: str, body: dict[str, Any], status: int, code: str
) -> None:
    path = repository if body["path"] == "REPO" else body["path"]

    reply = client.post(f"/git/{call}", {**body, "path": path})

    assert (reply.status, reply.json["error"]) == (status, code), reply.body


def test_a_folder_that_is_no_repository_is_404(client: Client, home: Path) -> None:
    assert client.get("/git/status", path=str(home)).json["error"] == "not_found"
    assert client.get("/git/history", path=str(home)).status == 404


def test_a_repository_without_commits_has_no_history(client: Client, home: Path) -> None:
    client.post("/git/init", {"path": str(home / "new")})

    assert client.get("/git/history", path=str(home / "new")).json == {"commits": []}


def test_stored_credentials_serve_the_sandbox(client: Client, agent: Agent) -> None:
    assert client.post("/git/credentials", {"username": "ann", "password": "tok", "host": "example.com"}).status == 200

    said = client.exec("printf 'protocol=https\\nhost=example.com\\n\\n' | git credential fill").json

    assert "password=tok" in said["stdout"]
