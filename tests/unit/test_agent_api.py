"""What agents say and what they are answered, well-formed and not, on the world in memory."""

import json
from typing import Any

import pytest

from chalicelib import agent_api
from chalicelib.core import errors, lifecycle, movements
from chalicelib.core.errors import Refused
from chalicelib.core.lifecycle import Wish
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.states import Event, State
from chalicelib.dialect import Request
from tests.examples import OWNER
from tests.playing import House


@pytest.fixture
def house() -> House:
    return House()


def say(house: House, path: str, token: str | None, body: Any, method: str = "POST") -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    reply = agent_api.answer(house.world, "agent", Request(method, path, headers=headers, body=raw))
    assert reply.headers == {"content-type": "application/json"}
    return reply.status, json.loads(reply.body)


def saving(house: House) -> tuple[Sandbox, str]:
    made = lifecycle.create(house.world, OWNER, Wish())
    house.play()
    made = lifecycle.get(house.world, OWNER, made.id)
    assert made.machine is not None
    house.agents.answers[made.machine.address] = lambda *_: {}
    lifecycle.ask(house.world, OWNER, made.id, Event.STOP)
    house.play()
    return lifecycle.get(house.world, OWNER, made.id), movements.agent_token(house.world, made)


def test_a_machine_boots_and_says_hello(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish(user="daytona"))
    house.machines.launch(made.movement)

    status, answer = say(
        house, "/boot", movements.boot_token(house.world, made), {"sandbox": made.id, "agent_version": "1"}
    )
    hello = {"sandbox": made.id, "task_token": "", "port": 2280, "restored": False, "error": None}

    assert (status, answer["user"], answer["restore"]) == (200, "daytona", None)
    assert say(house, "/hello", answer["agent_token"], hello) == (200, {})
    assert lifecycle.get(house.world, OWNER, made.id).state is State.STARTED


def test_a_machine_that_cannot_restore_says_so(house: House) -> None:
    made = lifecycle.create(house.world, OWNER, Wish())

    say(house, "/hello", movements.agent_token(house.world, made), {"error": "the checkpoint is damaged"})

    assert lifecycle.get(house.world, OWNER, made.id).reason == "the checkpoint is damaged"


def test_a_disk_is_sent_in_parts_and_reported(house: House) -> None:
    made, token = saving(house)
    status, more = say(house, "/parts", token, {"sandbox": made.id, "checkpoint": made.movement, "from": 1, "count": 2})
    etags = [house.blobs.send(url, content) for url, content in zip(more["part_urls"], (b"ab", b"c"), strict=True)]
    parts = [{"number": n, "etag": etag, "size": 1} for n, etag in enumerate(etags, 1)][::-1]

    said = {"sandbox": made.id, "checkpoint": made.movement, "parts": parts, "size": 3, "sha256": "a" * 64, "files": 2}

    assert status == 200
    assert say(house, "/saved", token, {**said, "task_token": None, "error": None}) == (200, {})
    assert lifecycle.get(house.world, OWNER, made.id).checkpoint is not None


def test_a_disk_that_could_not_be_read_is_reported(house: House) -> None:
    made, token = saving(house)

    assert say(house, "/saved", token, {"checkpoint": made.movement, "error": "input/output error"}) == (200, {})
    house.play()

    assert lifecycle.get(house.world, OWNER, made.id).reason == "the disk could not be saved: input/output error"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/boot", b""),
        ("/boot", b"{"),
        ("/boot", b"[" * 100_000),
        ("/boot", []),
        ("/boot", {"unknown": 1}),
        ("/hello", {"error": 5}),
        ("/hello", {"restored": "yes"}),
        ("/parts", {}),
        ("/parts", {"from": 0, "count": 1}),
        ("/parts", {"from": 1, "count": 65}),
        ("/parts", {"from": 1.5, "count": 1}),
        ("/parts", {"from": True, "count": 1}),
        ("/saved", {}),
        ("/saved", {"checkpoint": ""}),
        ("/saved", {"checkpoint": "x", "size": -1}),
        ("/saved", {"checkpoint": "x", "size": 1e400}),
        ("/saved", {"checkpoint": "x", "sha256": "A" * 64}),
        ("/saved", {"checkpoint": "x", "parts": {}}),
        ("/saved", {"checkpoint": "x", "parts": [{}]}),
        ("/saved", {"checkpoint": "x", "parts": [{"number": 2, "etag": "x"}]}),
        ("/saved", {"checkpoint": "x", "parts": [{"number": 1, "etag": "x"}] * 2}),
        ("/saved", {"checkpoint": "x", "parts": [{"number": 1, "etag": "x", "more": 1}]}),
        ("/saved", {"checkpoint": "x", "error": "\ud800"}),
    ],
)
def test_what_is_said_wrongly_is_refused(house: House, path: str, body: Any) -> None:
    made, token = saving(house)

    status, answer = say(house, path, token, body)

    assert (status, answer["error"]) == (400, "invalid")
    assert answer["message"]
    assert lifecycle.get(house.world, OWNER, made.id) == made


def test_a_body_that_is_too_long_is_refused_unread(house: House) -> None:
    assert say(house, "/saved", "any", b" " * (4 * 1024 * 1024 + 1))[0] == 413


@pytest.mark.parametrize("path", ["/boot", "/hello", "/parts", "/saved"])
@pytest.mark.parametrize("token", [None, "", "forged", "agent.e30.x"])
def test_nobody_speaks_without_a_token(house: House, path: str, token: str | None) -> None:
    bodies = {"/parts": {"from": 1, "count": 1}, "/saved": {"checkpoint": "x"}}

    status, answer = say(house, path, token, bodies.get(path, {}))

    assert (status, answer["error"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/boot"), ("POST", "/"), ("POST", "/boot/x"), ("POST", "/saved/")]
)
def test_there_is_nothing_else(house: House, method: str, path: str) -> None:
    assert say(house, path, None, {}, method=method)[0] == 404


def test_every_refusal_has_a_status_and_a_code() -> None:
    refusals = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Refused)} - {Refused}

    assert set(agent_api.CODES) == refusals
