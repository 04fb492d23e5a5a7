"""The edge before a real agent, spoken to as Daytona's clients do."""

import asyncio
import hashlib
import io
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from chalicelib import gateway
from tests.agent.control_plane import ControlPlane
from tests.agent.running import Agent
from tests.edge.house import House, house

LARGE = 64 * 1024 * 1024


@pytest_asyncio.fixture
async def real(tmp_path: Path) -> AsyncIterator[House]:
    """A house whose sandbox has a real agent, claimed as a warm one is."""
    root = tmp_path / "root"
    root.mkdir()
    with ControlPlane() as control:
        agent = Agent(control, root)
        await asyncio.to_thread(agent.hello)
        async with house(gateway.dialect_named) as standing:
            standing.moved_to(f"127.0.0.1:{agent.port}")
            claim: dict[str, Any] = {
                "sandbox": standing.box.id,
                "agent_token": standing.token(),
                "env": {},
                "user": None,
            }
            assert (await asyncio.to_thread(agent.client().post, "/claim", claim)).status == 200
            yield standing
        agent.stop()


def _at(real: House, rest: str) -> str:
    return f"http://127.0.0.1:{real.port}/daytona/toolbox/{real.box.id}/toolbox{rest}"


async def test_a_command_runs(real: House) -> None:
    reply = await real.client.post(_at(real, "/process/execute"), json={"command": "echo $((6 * 7)); exit 3"})

    told = await reply.json()
    assert (told["exitCode"], told["result"]) == (3, "42\n")


async def test_large_output_that_is_no_text_comes_through(real: House) -> None:
    command = "head -c 6000000 /dev/urandom"
    reply = await real.client.post(_at(real, "/process/execute"), json={"command": command})

    assert (await reply.json())["exitCode"] == 0


async def test_a_client_that_leaves_ends_its_command(real: House, tmp_path: Path) -> None:
    (tmp_path / "alive").touch()
    command = f"while rm {tmp_path}/alive; do sleep 0.05; done"
    call = asyncio.create_task(real.client.post(_at(real, "/process/execute"), json={"command": command}))
    while (tmp_path / "alive").exists():
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.sleep(0.5)
    (tmp_path / "alive").touch()
    await asyncio.sleep(0.2)

    assert (tmp_path / "alive").exists()


@pytest.mark.parametrize("size", [0, 1000, LARGE])
async def test_a_file_goes_up_and_comes_down_as_it_was(real: House, size: int) -> None:
    content = random.Random(size).randbytes(size)
    form = aiohttp.FormData({"files[0].path": "a file"})
    form.add_field("files[0].file", io.BytesIO(content), filename="f")
    up = await real.client.post(_at(real, "/files/bulk-upload"), data=form)
    down = await real.client.get(_at(real, "/files/download?path=a%20file"))

    assert (up.status, down.status) == (200, 200)
    assert hashlib.sha256(await down.read()).digest() == hashlib.sha256(content).digest()


async def test_an_upload_that_cannot_be_is_refused_in_daytonas_words(real: House) -> None:
    await real.client.post(_at(real, "/process/execute"), json={"command": "touch no-folder"})
    form = aiohttp.FormData({"files[0].path": "no-folder/f"})
    form.add_field("files[0].file", io.BytesIO(bytes(LARGE)), filename="f")
    reply = await real.client.post(_at(real, "/files/bulk-upload"), data=form)

    assert 400 <= reply.status < 500
    assert (await reply.json())["statusCode"] == reply.status


async def test_the_log_of_a_command_is_followed_to_its_end(real: House) -> None:
    session = _at(real, "/process/session")
    await real.client.post(session, json={"sessionId": "s"})
    ran = await real.client.post(
        f"{session}/s/exec", json={"command": "echo a; sleep 0.2; echo b >&2", "runAsync": True}
    )
    command = (await ran.json())["cmdId"]
    async with real.client.ws_connect(f"{session}/s/command/{command}/logs?follow=true") as socket:
        frames = [message.data async for message in socket]

    assert b"".join(frames) == b"\x01\x01\x01a\n\x02\x02\x02b\n"
    assert socket.close_code == 1000


async def test_a_websocket_to_nothing_is_refused_with_the_agents_reason(real: House) -> None:
    handshake = {"Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    reply = await real.client.get(_at(real, "/process/session/none/command/none/logs?follow=true"), headers=handshake)

    assert reply.status == 404
    assert "none" in json.dumps(await reply.json())
