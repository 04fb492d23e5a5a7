"""What listens inside, reached from outside."""

import http.server
import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.server import ServerConnection, serve

from tests.agent.running import Agent, Client


class _Inside(http.server.BaseHTTPRequestHandler):
    """A server such as a sandbox may run: it tells what it was asked, or does what the path says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def _tell(self) -> None:
        body = self._body()
        said = {
            "method": self.command,
            "path": self.path,
            "headers": {k.lower(): v for k, v in self.headers.items()},
            "size": len(body),
        }
        self._answer(200, json.dumps(said).encode())

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _tell

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "12345")
        self.end_headers()

    def do_GET(self) -> None:
        if self.path == "/large":
            self._answer(200, b"x" * 50_000_000)
        elif self.path == "/stream":
            self._stream()
        elif self.path == "/until-closed":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"all there is")
            self.close_connection = True
        elif self.path == "/nothing":
            self.close_connection = True
        elif self.path == "/204":
            self.send_response(204)
            self.end_headers()
        else:
            self._tell()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end_headers()
        for word in (b"one", b"two"):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(word), word))
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers may leave."""


@pytest.fixture(scope="module")
def inside() -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), _Inside)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """Sends back what it gets, and a last word when the caller has said all."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while chunk := self.request.recv(65536):
                self.request.sendall(chunk)
            self.request.sendall(b"bye")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def nowhere() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_request_arrives_without_its_prefix(client: Client, inside: int, method: str) -> None:
    headers = {"X-Mine": "1", "Sandbar-Authorization": "Basic abc", "Host": "3000-sb.example.com"}

    said = client.ask(method, f"/proxy/{inside}/a%2Fb/c?q=%20x&y", None, headers).json

    assert (said["method"], said["path"]) == (method, "/a%2Fb/c?q=%20x&y")
    assert (said["headers"]["x-mine"], said["headers"]["host"]) == ("1", "3000-sb.example.com")
    assert said["headers"]["authorization"] == "Basic abc"


def test_our_token_stays_with_us(client: Client, inside: int) -> None:
    assert "authorization" not in client.get(f"/proxy/{inside}/").json["headers"]
    assert client.get(f"/proxy/{inside}").json["path"] == "/"


def test_bodies_stream_both_ways(client: Client, inside: int) -> None:
    sent = client.ask("POST", f"/proxy/{inside}/up", b"y" * 20_000_000).json
    chunked = client.ask("POST", f"/proxy/{inside}/up", iter([b"a" * 100_000] * 20)).json

    assert (sent["size"], chunked["size"]) == (20_000_000, 2_000_000)
    assert len(client.get(f"/proxy/{inside}/large").body) == 50_000_000


def test_a_stream_arrives_as_it_is_made(client: Client, inside: int) -> None:
    client.link.request("GET", f"/proxy/{inside}/stream", headers=client.headers)
    reply = client.link.getresponse()

    began = time.monotonic()
    first = reply.read1(100)
    assert first == b"one"
    assert reply.read() == b"two"
    assert time.monotonic() - began > 0.05
    assert reply.headers.get_all("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(("path", "status", "body"), [("/until-closed", 200, b"all there is"), ("/204", 204, b"")])
def test_replies_without_a_length(client: Client, inside: int, path: str, status: int, body: bytes) -> None:
    reply = client.get(f"/proxy/{inside}{path}")

    assert (reply.status, reply.body) == (status, body)


def test_head_keeps_the_length(client: Client, inside: int) -> None:
    assert client.ask("HEAD", f"/proxy/{inside}/").headers["content-length"] == "12345"
    assert client.get(f"/proxy/{inside}/").status == 200


def test_no_reply_and_no_listener_are_502(client: Client, inside: int, nowhere: int) -> None:
    assert client.get(f"/proxy/{inside}/nothing").json["error"] == "unreachable"
    assert client.get(f"/proxy/{nowhere}/").status == 502
    assert client.get("/proxy/0/").status == 400
    assert client.get("/proxy/x/").status == 400


def test_websockets_pass(agent: Agent, client: Client) -> None:
    def speak(link: ServerConnection) -> None:
        link.send(f"{link.request.path} {link.request.headers.get('Authorization')}")  # type: ignore[union-attr]
        for word in link:
            link.send(word)

    with serve(speak, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        with client.socket(f"/proxy/{port}/ws/path?x=1") as link:
            assert link.recv(timeout=10) == "/ws/path?x=1 None"
            link.send(b"z" * 1_000_000)
            assert link.recv(timeout=10) == b"z" * 1_000_000
        server.shutdown()


def _forward(client: Client, port: int, headers: dict[str, str] | None = None) -> tuple[socket.socket, bytes]:
    lines = [f"GET /forward/{port} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: sandbar-tcp"]
    lines += [f"{name}: {value}" for name, value in (headers or client.headers).items()]
    link = socket.create_connection(("127.0.0.1", client.port), timeout=10)
    link.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += link.recv(1)
    return link, head


def test_raw_bytes_are_forwarded(client: Client, echo: int) -> None:
    link, head = _forward(client, echo)
    with link:
        assert head.startswith(b"HTTP/1.1 101 ")
        link.sendall(b"\x00\xffraw")
        assert link.recv(100) == b"\x00\xffraw"
        link.shutdown(socket.SHUT_WR)
        assert link.recv(100) == b"bye"
        assert link.recv(100) == b""


def test_forwarding_is_refused_honestly(client: Client, echo: int, nowhere: int) -> None:
    for port, headers, status in (
        (nowhere, None, b"502"),
        (echo, {"Authorization": "Bearer no"}, b"401"),
        (99999, None, b"400"),
    ):
        link, head = _forward(client, port, headers)
        link.close()
        assert head.split()[1] == status


def test_a_port_as_websocket_messages(client: Client, echo: int, nowhere: int) -> None:
    with client.socket(f"/ports/{echo}") as link:
        link.send(b"hello" * 100_000)
        said = b""
        while len(said) < 500_000:
            said += link.recv(timeout=10)  # type: ignore[operator]
    assert said == b"hello" * 100_000
    with pytest.raises(InvalidStatus) as refused:
        client.socket(f"/ports/{nowhere}").__enter__()
    assert refused.value.response.status_code == 502


def test_listening_ports_of_the_sandbox_are_listed(client: Client, agent: Agent) -> None:
    client.post("/sessions", {"id": "listener"})
    program = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    program += "; time.sleep(100)"
    client.post("/sessions/listener/commands", {"command": f'python3 -c "{program}"', "wait": False, "command_id": "c"})
    while not (said := client.get("/sessions/listener/commands/c/output").json["stdout"]):
        pass

    assert client.get("/ports").json == {"ports": [int(said)]}
    client.delete("/sessions/listener")
