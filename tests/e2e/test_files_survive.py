"""A stop and a start over a tree of everything that a disk may hold: byte for byte, owner for owner, hole for hole."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack, running_stack

SCRIPT = (Path(__file__).parent / "tree.py").read_text()
PATIENCE = 240.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as stack:
        yield stack


def test_a_tree_of_ten_thousand_files_survives_a_stop_and_a_start_twice(stack: Stack) -> None:
    id = stack.ask("POST", "/daytona/sandbox", {"user": "root", "disk": 20}).json["id"]
    _run(stack, id, f"mkdir -p /tree && cat > /root/tree.py <<'SCRIPT'\n{SCRIPT}\nSCRIPT")
    _run(stack, id, "python3 /root/tree.py make")
    before = _run(stack, id, "python3 /root/tree.py tell > /root/before && sha256sum < /root/before")

    for _ in range(2):
        _move(stack, id, "stop", "stopped")
        _move(stack, id, "start", "started")
        after = _run(stack, id, "python3 /root/tree.py tell > /root/after && sha256sum < /root/after")
        difference = _run(stack, id, "diff /root/before /root/after | head -c 4000; true")

        assert difference == ""
        assert after == before

    lines = int(_run(stack, id, "wc -l < /root/before"))
    stack.ask("DELETE", f"/daytona/sandbox/{id}")
    assert lines > 10_000


def _run(stack: Stack, id: str, command: str) -> str:
    said = stack.ask("POST", f"/daytona/toolbox/{id}/toolbox/process/execute", {"command": command, "timeout": 200})
    assert said.status == 200, said.body[:2000]
    assert said.json["exitCode"] == 0, said.json
    return str(said.json["result"])


def _move(stack: Stack, id: str, verb: str, state: str) -> None:
    stack.ask("POST", f"/daytona/sandbox/{id}/{verb}")
    end = time.monotonic() + PATIENCE
    found: Any = None
    while time.monotonic() < end:
        found = stack.ask("GET", f"/daytona/sandbox/{id}").json
        if found["state"] == state:
            return
        assert found["state"] != "error", found
        time.sleep(0.2)
    raise AssertionError(f"after {PATIENCE:.0f} s the sandbox is {found['state']}, not {state}")
