"""Calls that an agent answers as JSON: what goes there, what comes back, who may."""

import asyncio
import io

import pytest

from chalicelib.core.sandbox import Machine
from chalicelib.core.states import State
from tests.edge.agent import Agent
from tests.edge.house import READER, STRANGER, House
from tests.edge.wire import Wire


async def test_a_call_is_translated_there_and_back(house: House) -> None:
    reply = await house.client.post(house.at("/exec"), json={"command": "true", "dir": "/tmp"})

    assert (reply.status, await reply.json()) == (200, {"result": "ok", "asked": {"command": "true", "cwd": "/tmp"}})
    assert house.agent.asked == [{"command": "true", "cwd": "/tmp"}]


async def test_the_agent_sees_its_token_and_never_the_callers_key(house: House) -> None:
    await house.client.post(house.at("/exec"), json={"command": "true"}, headers={"X-Secret": "s", "Cookie": "c=d"})

    headers = house.agent.seen[0].headers
    assert headers["authorization"] == f"Bearer {house.agent.token}"
    assert set(headers) == {"Host", "Authorization", "Content-Type", "Content-Length"}


async def test_a_slot_cannot_reach_another_path(house: House) -> None:
    reply = await house.client.get(house.at("/said/..%2F..%2Fexec%3Fa=b?q=a%26b c"))

    assert (await reply.json())["asked"] == "/said/..%2F..%2Fexec%3Fa%3Db?always=1&q=a%26b+c"


async def test_a_sandbox_is_found_by_its_name_too(house: House) -> None:
    reply = await house.client.post(f"{house.url}/box/{house.box.name}/exec", json={"command": "true"})

    assert reply.status == 200


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        ("", "/exec", 401),
        ("Bearer wrong", "/exec", 401),
        ("Basic c2I6c2I=", "/exec", 401),
        (f"Bearer {READER}", "/secret", 403),
        (f"Bearer {STRANGER}", "/exec", 404),
    ],
)
async def test_only_its_owners_keys_reach_a_sandbox(house: House, key: str, path: str, status: int) -> None:
    reply = await house.client.post(house.at(path), json={"command": "true"}, headers={"Authorization": key})

    assert (reply.status, (await reply.json())["status"]) == (status, status)
    assert not house.agent.seen


async def test_an_unknown_sandbox_is_not_found(house: House) -> None:
    reply = await house.client.post(f"{house.url}/box/nowhere/exec", json={"command": "true"})

    assert reply.status == 404


@pytest.mark.parametrize(("state", "status"), [(State.STOPPED, 409), (State.FAILED, 409), (State.STARTING, 408)])
async def test_a_sandbox_that_is_not_started_is_refused_with_its_state(house: House, state: State, status: int) -> None:
    house.change(state=state, machine=None)

    reply = await house.client.post(house.at("/exec"), json={"command": "true"})

    assert reply.status == status
    assert state in (await reply.json())["oops"]


async def test_a_sandbox_is_usable_the_moment_it_is_started(house: House) -> None:
    house.change(state=State.STARTING)
    await house.client.post(house.at("/exec"), json={"command": "true"})
    house.change(state=State.STARTED)

    assert (await house.client.post(house.at("/exec"), json={"command": "true"})).status == 200


async def test_what_is_known_is_not_read_again_at_once(house: House) -> None:
    for _ in range(5):
        await house.client.post(house.at("/exec"), json={"command": "true"})

    assert (house.boxes.reads, house.keys.reads) == (1, 1)


async def test_what_was_asked_of_a_sandbox_here_makes_it_be_read_again(house: House) -> None:
    await house.client.post(house.at("/exec"), json={"command": "true"})
    house.change(state=State.STOPPING)
    await house.client.post(house.at("/stop"))

    assert (await house.client.post(house.at("/exec"), json={"command": "true"})).status == 409


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"command": 3}', "must be text"),
        ('{"command": "a", "more": 1}', "unknown field"),
        ("{}", "command is missing"),
        ("[" * 100_000, "not JSON"),
    ],
)
async def test_a_bad_body_is_refused_with_the_reason(house: House, body: str, part: str) -> None:
    reply = await house.client.post(house.at("/exec"), data=body)

    assert reply.status == 400
    assert part in (await reply.json())["oops"]
    assert not house.agent.seen


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_limit_is_refused(house: House, chunked: bool) -> None:
    data = b" " * (1024 * 1024 + 1)

    reply = await house.client.post(house.at("/exec"), data=_pieces(data) if chunked else io.BytesIO(data))

    assert reply.status == 413


async def test_a_body_that_does_not_arrive_is_given_up(house: House) -> None:
    wire = await Wire.to(house, "POST", "/exec", "Content-Length: 10")

    assert await wire.status() == 408


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("not_found", 404, 404),
        ("invalid", 400, 400),
        ("timeout", 408, 408),
        ("conflict", 409, 409),
        ("git_auth", 401, 418),
        ("failed", 500, 503),
        ("whatever", 500, 503),
    ],
)
async def test_an_agents_refusal_becomes_the_dialects(house: House, code: str, status: int, told: int) -> None:
    reply = await house.client.post(house.at("/exec"), json={"command": f"refuse {code} {status}"})

    assert (reply.status, await reply.json()) == (told, {"oops": f"{code} it is", "status": told, "code": code})


@pytest.mark.parametrize("command", ["babble", "die", "redirect http://127.0.0.1:1/"])
async def test_an_agent_that_does_not_make_sense_is_unavailable(house: House, command: str) -> None:
    reply = await house.client.post(house.at("/exec"), json={"command": command})

    assert reply.status == 503


async def test_a_machine_that_was_replaced_is_found(house: House) -> None:
    await house.client.post(house.at("/exec"), json={"command": "true"})
    async with Agent().listening() as other:
        house.moved_to(other.address)
        other.token = house.token()
        house.agent.token = "somebody else's"

        reply = await house.client.post(house.at("/exec"), json={"command": "true"})

    assert (reply.status, len(other.seen)) == (200, 1)


async def test_a_machine_that_is_gone_is_unavailable_and_its_state_is_read(house: House) -> None:
    house.change(machine=Machine("task-1", "127.0.0.1:9"))
    gone = await house.client.post(house.at("/exec"), json={"command": "true"})
    house.change(state=State.STOPPED, machine=None)
    stopped = await house.client.post(house.at("/exec"), json={"command": "true"})

    assert (gone.status, stopped.status) == (503, 409)


async def test_a_client_that_goes_away_takes_its_call_along(house: House) -> None:
    call = asyncio.create_task(house.client.post(house.at("/exec"), json={"command": "hang"}))
    await house.agent.reached.wait()
    call.cancel()

    await asyncio.wait_for(house.agent.gone.wait(), 5)


async def test_a_large_answer_comes_whole(house: House) -> None:
    reply = await house.client.post(house.at("/exec"), json={"command": f"big {20 * 1024 * 1024}"})

    assert len((await reply.json())["result"]) == 20 * 1024 * 1024


async def test_nothing_is_told_where_nothing_is_to_be(house: House) -> None:
    reply = await house.client.post(house.at("/quiet"))

    assert (reply.status, await reply.read()) == (204, b"")


async def test_many_calls_share_one_lookup(house: House) -> None:
    calls = [house.client.post(house.at("/exec"), json={"command": "true"}) for _ in range(50)]

    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}
    assert (house.boxes.reads, house.keys.reads) == (1, 1)


async def test_activity_is_noted_once(house: House) -> None:
    for _ in range(3):
        await house.client.post(house.at("/exec"), json={"command": "true"})
    await asyncio.to_thread(house.boxes.noted.wait, 5)

    assert house.boxes.touched == [house.box.id]


async def test_head_is_get_without_the_body(house: House) -> None:
    reply = await house.client.head(house.at("/said/a"))

    assert (reply.status, reply.headers["content-type"], await reply.read()) == (200, "application/json", b"")


async def _pieces(data: bytes):  # type: ignore[no-untyped-def]
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]
