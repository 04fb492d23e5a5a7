"""Terminals: a real shell on a real PTY."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from tests.agent.running import Client

SH = ["/bin/sh", "-i"]


@pytest.fixture
def terminal(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    id = f"t{abs(hash(request.node.nodeid))}"
    made = client.post(
        "/terminals", {"id": id, "cols": 80, "rows": 24, "command": SH, "env": {"PS1": "$ ", "MINE": "1"}}
    )
    assert made.status == 201, made.body
    yield id
    client.delete(f"/terminals/{id}")


@contextmanager
def attach(client: Client, id: str, query: str = "") -> Iterator[tuple[ClientConnection, int]]:
    with client.socket(f"/terminals/{id}/attach{query}") as link:
        first = json.loads(link.recv(timeout=10))
        assert first["type"] == "attached"
        yield link, first["offset"]


def read_until(link: ClientConnection, words: bytes) -> bytes:
    said = b""
    while words not in said:
        chunk = link.recv(timeout=10)
        assert isinstance(chunk, bytes), chunk
        said += chunk
    return said


def read_rest(link: ClientConnection) -> tuple[bytes, dict[str, Any]]:
    """Everything up to the end, and how it ended."""
    frames = list(link)
    return b"".join(frame for frame in frames if isinstance(frame, bytes)), json.loads(frames[-1])


def test_what_is_typed_is_run_on_a_terminal(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (link, offset):
        link.send(b"tty; echo $MINE $TERM; stty size\n")
        said = read_until(link, b"24 80")

    assert offset == 0
    assert b"/dev/pts/" in said
    assert b"1 xterm-256color" in said


def test_control_c_interrupts_the_foreground(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (link, _):
        link.send(b"echo re''ady; sleep 1000\n")
        read_until(link, b"ready")
        time.sleep(0.1)
        link.send(b"\x03")
        link.send(b"echo back=$?\n")

        assert b"back=130" in read_until(link, b"back=1")


def test_a_resize_is_seen(client: Client, terminal: str) -> None:
    assert client.post(f"/terminals/{terminal}/resize", {"cols": 101, "rows": 33}).json["cols"] == 101

    with attach(client, terminal) as (link, _):
        link.send("stty size\n")
        read_until(link, b"33 101")


def test_the_end_tells_the_exit_code(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (link, _):
        link.send(b"exit 3\n")
        _, last = read_rest(link)

    assert last == {"type": "exited", "exit_code": 3, "reason": "exited"}
    assert link.close_code == 1000
    assert client.get(f"/terminals/{terminal}").json["active"] is False
    assert client.post(f"/terminals/{terminal}/resize", {"cols": 1, "rows": 1}).status == 410


def test_delete_kills_everything_on_it(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (link, _):
        link.send(b"sleep 4321 & echo star''ted\n")
        read_until(link, b"started")
        assert client.delete(f"/terminals/{terminal}").status == 204
        _, last = read_rest(link)

    assert last == {"type": "exited", "exit_code": 137, "reason": "killed by SIGKILL"}
    assert client.exec(["pgrep", "-fx", "sleep 4321"]).json["exit_code"] == 1
    assert client.get(f"/terminals/{terminal}").status == 404


def test_two_watch_the_same_and_one_comes_back_where_it_left(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (one, _), attach(client, terminal) as (two, _):
        one.send(b"echo first-$((1+1))\n")
        seen = read_until(one, b"first-2\r\n$ ")
        assert b"first-2" in read_until(two, b"first-2")
    with attach(client, terminal, f"?offset={len(seen)}") as (again, offset):
        again.send(b"exit\n")
        rest, _ = read_rest(again)

    assert offset == len(seen)
    assert b"first" not in rest


def test_much_output_reaches_a_slow_reader_whole(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (link, _):
        link.send(b"stty -onlcr; echo; seq 1 400000; exit\n")
        time.sleep(0.5)
        said, _ = read_rest(link)

    lines = said.split(b"\n")
    first = lines.index(b"1")
    assert lines[first : first + 400_000] == [b"%d" % number for number in range(1, 400_001)]


def test_only_the_end_is_kept_for_those_who_come_late(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (link, _):
        link.send(b"seq 1 200000; echo o''ver\n")
        read_until(link, b"over")
    with attach(client, terminal) as (late, offset):
        late.send(b"exit\n")
        said, _ = read_rest(late)

    assert offset > 1_000_000
    assert 250_000 < len(said) < 300_000


def test_a_lazy_terminal_starts_when_somebody_attaches(client: Client) -> None:
    made = client.post("/terminals", {"id": "lazy", "lazy": True, "command": ["/bin/echo", "hello"]}).json
    assert (made["active"], made["lazy"], made["cols"], made["rows"]) == (False, True, 80, 24)

    with attach(client, "lazy") as (link, _):
        said, last = read_rest(link)

    assert said == b"hello\r\n"
    assert last["exit_code"] == 0
    client.delete("/terminals/lazy")


def test_the_users_shell_is_the_default(client: Client) -> None:
    client.post("/terminals", {"id": "default"})
    with attach(client, "default") as (link, _):
        link.send(b"echo sh=$0\n")
        read_until(link, b"sh=/bin/bash")
    client.delete("/terminals/default")


def test_a_signal_reaches_the_foreground(client: Client, terminal: str) -> None:
    with attach(client, terminal) as (link, _):
        link.send(b"echo re''ady; sleep 1000\n")
        read_until(link, b"ready")
        time.sleep(0.1)
        assert client.post(f"/terminals/{terminal}/signal", {"signal": "TERM"}).status == 200
        link.send(b"echo back=$?\n")
        read_until(link, b"back=143")


def test_ids_sizes_and_unknown_terminals_are_checked(client: Client, terminal: str) -> None:
    assert client.post("/terminals", {"id": terminal}).status == 409
    for size in ({"cols": 0}, {"rows": 1001}, {"cols": "wide"}, {"cols": 1.5}, {"cols": True}):
        assert client.post("/terminals", {"id": "new", **size}).status == 400
    with pytest.raises(InvalidStatus) as refused:
        client.socket("/terminals/none/attach").__enter__()
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["error"] == "not_found"
