"""What a hostile or mistaken client sends: each gets Daytona's error with the right status, and never a fault of ours."""

import json
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stack import Answer, Stack

pytestmark = pytest.mark.xdist_group("stack")  # one installation for all of them

API = "/daytona"
NOBODYS = "00000000-0000-7000-8000-000000000000"
CONTROL = {"statusCode", "timestamp", "path", "error", "message"}
TOOLBOX = {"statusCode", "timestamp", "path", "method", "message", "code", "source"}


@pytest.fixture(scope="module")
def box(stack: Stack) -> Iterator[str]:
    """The path of a started sandbox."""
    made = stack.ask("POST", f"{API}/sandbox", {})
    assert made.json["state"] == "started", made.json
    yield f"{API}/sandbox/{made.json['id']}"
    stack.ask("DELETE", f"{API}/sandbox/{made.json['id']}")


@pytest.fixture(scope="module", params=["/toolbox", ""], ids=["old", "new"])
def tools(request: pytest.FixtureRequest, box: str) -> str:
    """The path of its toolbox, in the older and the newer form."""
    return box.replace("/sandbox/", "/toolbox/") + str(request.param)


def refused(answer: Answer, status: int, shape: set[str] = CONTROL) -> str:
    """The message of an answer, once it is an error of this status in Daytona's shape."""
    assert answer.status == status, answer.body[:500]
    assert shape <= set(answer.json)
    assert answer.json["statusCode"] == status
    return str(answer.json["message"])


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff", b"[" * 100_000, b'{"env":{"A":"\\ud800"}}'])
def test_what_is_no_json_object_is_400(stack: Stack, body: bytes) -> None:
    refused(stack.ask("POST", f"{API}/sandbox", body), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu", 0), ("cpu", -1), ("cpu", 10**9), ("cpu", "1"), ("memory", 0), ("disk", 10**9), ("env", []), ("env", {"A": 1}),
        ("env", {"A=B": "x"}), ("env", {"A": "\0"}), ("labels", {"": "x"}), ("public", "yes"), ("name", "no spaces"),
        ("user", "../root"), ("snapshot", "no-such"), ("autoStopInterval", -1), ("nonsense", 1), ("volumes", [{"a": 1}]),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_400_and_named(stack: Stack, field: str, value: Any) -> None:
    message = refused(stack.ask("POST", f"{API}/sandbox", {field: value}), 400)

    assert message


def test_a_field_of_100_mb_is_413_before_it_is_sent(stack: Stack) -> None:
    place = urlsplit(stack.url)
    head = f"POST {API}/sandbox HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.key}\r\nContent-Length: 100000000\r\n\r\n"

    with socket.create_connection((place.hostname, place.port), timeout=10) as link:
        link.sendall(head.encode() + b'{"name":"')
        answer = link.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) >= CONTROL


def test_a_body_beyond_the_limit_is_413(stack: Stack) -> None:
    refused(stack.ask("POST", f"{API}/sandbox", b'{"name":"' + b"n" * 2_000_000 + b'"}'), 413)


@pytest.mark.parametrize("key", [None, "wrong", "a b", "x" * 4000])
def test_nobody_is_401(stack: Stack, key: str | None) -> None:
    refused(stack.ask("GET", f"{API}/sandbox", key=key), 401)
    refused(stack.ask("GET", f"{API}/toolbox/{NOBODYS}/work-dir", key=key), 401, TOOLBOX)


@pytest.mark.parametrize("id", [NOBODYS, "no-such-name", "%00", "..%2f..", "a%0d%0ab", "x" * 500, "%ff"])
def test_an_unknown_sandbox_is_404(stack: Stack, id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop")):
        answer = stack.ask(method, f"{API}/sandbox/{id}{path}")
        assert answer.status in (400, 404), (method, path, answer.body[:300])
        assert set(answer.json) >= CONTROL
    answer = stack.ask("GET", f"{API}/toolbox/{id}/toolbox/work-dir")
    assert answer.status in (400, 404), answer.body[:300]


@pytest.mark.parametrize("path", ["/sandbox/../sandbox", "/sandbox/%2e%2e/config", "/toolbox/%2E./x"])
def test_a_path_that_climbs_is_400(stack: Stack, path: str) -> None:
    assert stack.ask("GET", f"{API}{path}").status == 400


def test_a_name_that_is_taken_is_409(stack: Stack) -> None:
    name = f"n{uuid.uuid4().hex}"
    first = stack.ask("POST", f"{API}/sandbox", {"name": name})

    message = refused(stack.ask("POST", f"{API}/sandbox", {"name": name}), 409)

    assert name in message
    stack.ask("DELETE", f"{API}/sandbox/{first.json['id']}")


def test_an_action_that_the_state_does_not_allow_is_409_with_the_state(stack: Stack, box: str) -> None:
    assert "started" in refused(stack.ask("POST", f"{box}/start"), 409)


def test_of_two_callers_at_once_one_wins_and_the_other_is_told_why(stack: Stack) -> None:
    made = stack.ask("POST", f"{API}/sandbox", {}).json["id"]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: stack.ask("POST", f"{API}/sandbox/{made}/stop"), range(2)))

    won, lost = sorted(answers, key=lambda answer: answer.status)
    assert (won.status, won.json["state"]) == (200, "stopped")
    assert "stop" in refused(lost, 409)
    refused(stack.ask("GET", f"{API}/toolbox/{made}/toolbox/work-dir"), 409, TOOLBOX)
    stack.ask("DELETE", f"{API}/sandbox/{made}")


@pytest.mark.parametrize(
    "body", [{}, {"command": ""}, {"command": "a\0b"}, {"command": ["ls"]}, {"command": "ls", "timeout": -1}, {"x": 1}]
)
def test_a_command_that_is_wrong_is_400(stack: Stack, tools: str, body: Any) -> None:
    refused(stack.ask("POST", f"{tools}/process/execute", body), 400, TOOLBOX)


def test_a_command_that_is_too_long_is_refused(stack: Stack, tools: str) -> None:
    refused(stack.ask("POST", f"{tools}/process/execute", {"command": "true " + "x" * 500_000}), 400, TOOLBOX)
    refused(stack.ask("POST", f"{tools}/process/execute", {"command": "true " + "x" * 5_000_000}), 413, TOOLBOX)


@pytest.mark.parametrize("path", ["%00", "a%00b", "/" + "x" * 300, "/proc/self/mem/x", "/dev/null/x", "%ff%fe"])
def test_a_hostile_path_is_refused(stack: Stack, tools: str, path: str) -> None:
    for call in ("files/info", "files", "files/download"):
        answer = stack.ask("GET", f"{tools}/{call}?path={path}")
        assert answer.status in (400, 403, 404), (call, answer.body[:300])
        assert set(answer.json) >= TOOLBOX


def test_what_is_missing_or_unknown_in_a_query_is_400(stack: Stack, tools: str) -> None:
    refused(stack.ask("GET", f"{tools}/files/info"), 400, TOOLBOX)
    refused(stack.ask("GET", f"{tools}/files/info?path=a&what=b"), 400, TOOLBOX)
    refused(stack.ask("POST", f"{tools}/files/folder?path=/tmp/x&mode=999"), 400, TOOLBOX)
    refused(stack.ask("GET", f"{tools}/files?path=/&depth=-1"), 400, TOOLBOX)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"hello"),
        ("multipart/form-data", b"hello"),
        ("multipart/form-data; boundary=x", b"hello"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="files[0].path"\r\n\r\n/tmp/a',
        ),
    ],
)
def test_an_upload_that_is_none_is_400(stack: Stack, tools: str, kind: str, body: bytes) -> None:
    answer = stack.ask("POST", f"{tools}/files/bulk-upload", body, headers={"Content-Type": kind})

    refused(answer, 400, TOOLBOX)


def test_what_the_toolbox_does_not_have_is_told_in_its_shape(stack: Stack, tools: str) -> None:
    assert stack.ask("GET", f"{tools}/nothing").status == 404
    assert set(stack.ask("GET", f"{tools}/nothing").json) >= TOOLBOX
    refused(stack.ask("PUT", f"{tools}/files"), 400, TOOLBOX)
    refused(stack.ask("GET", f"{tools}/process/session/none"), 404, TOOLBOX)
    refused(stack.ask("GET", f"{tools}/process/session/none/command/none/logs"), 404, TOOLBOX)
    refused(stack.ask("POST", f"{tools}/git/clone", {"url": "/nowhere", "path": "/tmp/n"}), 404, TOOLBOX)


def test_a_sandbox_goes_on_after_all_this(stack: Stack, tools: str) -> None:
    done = stack.ask("POST", f"{tools}/process/execute", {"command": "echo still here"})

    assert done.json == {"exitCode": 0, "result": "still here\n"}
