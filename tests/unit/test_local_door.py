"""The door: agents reach the control plane and presigned objects through it, and nothing else."""

import http.client
import json
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local import door, stage
from local import home as homes
from local.children import Child, free_ports, listens_at
from local.home import CODE, Home

KEYS = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
STORE = "http://127.0.0.1:9000"


class ControlPlane(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        heard = {"path": self.path, "authorization": self.headers["Authorization"], "body": body.decode()}
        answer = json.dumps(heard).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None: ...


@dataclass(frozen=True)
class Agent:
    """Somebody on the sandbox's side of the door."""

    home: Home

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(STORE.removeprefix("http://"), timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.home.control_socket))
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(name="home", scope="module")
def a_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = homes.at(tmp_path_factory.mktemp("data"))
    homes.prepare(home)
    (home.objects / "bucket").mkdir()
    yield home
    shutil.rmtree(home.run)


@pytest.fixture(name="agent", scope="module")
def an_agent_at_the_door(home: Home) -> Iterator[Agent]:
    told = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(CODE),
        "SANDBAR_DATA": str(home.data),
        "SANDBAR_OBJECTS_PORT": str(free_ports(1)[0]),
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    command = [sys.executable, "-m", "local.door"]
    process = Child("door", command, told, home.logs / "door.log", listens_at(home.control_socket))
    process.start()
    process.await_ready()
    yield Agent(home)
    process.end()


@pytest.fixture(name="control_plane")
def a_control_plane(home: Home) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), ControlPlane) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stage.publish(home, f"http://127.0.0.1:{server.server_port}/stage")
        yield
        server.shutdown()


def test_an_agent_s_call_reaches_the_control_plane_as_it_was_sent(agent: Agent, control_plane: None) -> None:
    status, heard = agent.ask("POST", "/agent/hello%2Fx?a=1", b'{"sandbox": "s"}', Authorization="Bearer t")

    assert status == 201
    assert json.loads(heard) == {
        "path": "/stage/agent/hello%2Fx?a=1",
        "authorization": "Bearer t",
        "body": '{"sandbox": "s"}',
    }


def test_an_agent_is_asked_to_wait_while_there_is_no_control_plane(agent: Agent) -> None:
    stage.withdraw(agent.home)

    assert agent.ask("POST", "/agent/hello", b"{}")[0] == 503


def test_an_agent_is_asked_to_wait_while_the_control_plane_is_silent(agent: Agent) -> None:
    stage.publish(agent.home, "http://127.0.0.1:1/api")

    assert agent.ask("POST", "/agent/hello", b"{}")[0] == 503


def test_a_body_that_is_too_large_is_not_passed_on(agent: Agent, control_plane: None) -> None:
    assert agent.ask("POST", "/agent/hello", b"x" * (door.BODY_LIMIT + 1))[0] == 413


@pytest.mark.parametrize(
    "path", ["/", "/bucket", "/bucket/key", "/agents", "/health", "/daytona/sandbox", "/x/../agent/"]
)
def test_nothing_else_is_to_be_had_without_a_signature(agent: Agent, control_plane: None, path: str) -> None:
    assert agent.ask("GET", path)[0] == 403


def test_an_object_goes_in_and_out_by_presigned_addresses(agent: Agent) -> None:
    put, _ = agent.ask("PUT", _presigned("put_object"), b"a checkpoint")
    got = agent.ask("GET", _presigned("get_object"), Range="bytes=2-")

    assert put == 200
    assert got == (206, b"checkpoint")


def test_an_address_for_one_object_opens_no_other(agent: Agent) -> None:
    assert agent.ask("GET", _presigned("get_object").replace("/key", "/another"))[0] == 403


def test_what_an_interrupted_write_left_is_swept(home: Home) -> None:
    left = [home.objects / "bucket" / ".tmp.1", home.objects / "bucket" / ".nanio-meta" / "key.json.tmp"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    door.sweep(home)

    assert not any(path.exists() for path in left)


def _presigned(call: str) -> str:
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=STORE, config=config, **KEYS)
    url: str = client.generate_presigned_url(call, Params={"Bucket": "bucket", "Key": "key"})
    return url.removeprefix(STORE)
