"""Real machines started by a real workflow of a deployed stack, and what is known of them when things are killed."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.local.small import Small, running

# Says hello through the door, and lives for as many seconds as it is told.
PROGRAM = """
import http.client, json, os, socket, time
door = http.client.HTTPConnection("door")
door.sock = socket.socket(socket.AF_UNIX)
door.sock.connect("/run/sandbar/door/control.sock")
said = {"environment": sorted(os.environ), "memory": open("/sys/fs/cgroup/memory/memory.limit_in_bytes").read().strip()
        if os.path.exists("/sys/fs/cgroup/memory") else open("/sys/fs/cgroup/memory.max").read().strip()}
hello = {"task_token": os.environ["SANDBAR_TASK_TOKEN"], "said": said}
door.request("POST", "/agent/hello", json.dumps(hello), {"Content-Type": "application/json"})
assert door.getresponse().status == 200
time.sleep(SECONDS)
os._exit(3)
"""
HOG = "import time; hog = [bytearray(1 << 20) for _ in range(4096)]; time.sleep(60)"


@pytest.fixture(name="small", scope="module")
def a_small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    before = dict(os.environ)
    with running(tmp_path_factory.mktemp("small") / "data") as small:
        small.deploy()
        yield small
    os.environ.clear()
    os.environ.update(before)


def test_a_workflow_starts_a_machine_and_hears_its_hello(small: Small) -> None:
    _start(small, "hello", seconds=0)

    assert _await(small, "hello")["state"] == "started"
    said = _said(small, "hello")
    assert said["memory"] == str(512 << 20)
    assert {name for name in said["environment"] if name.startswith(("AWS", "ECS"))} == set()


def test_the_end_of_a_machine_reaches_a_function(small: Small) -> None:
    _start(small, "end", seconds=0)

    told = json.loads(_await(small, "end-end")["detail"])

    assert told["stopCode"] == "EssentialContainerExited"
    assert told["containers"][0]["exitCode"] == 3


def test_a_machine_that_takes_too_much_memory_is_ended_and_says_so(small: Small) -> None:
    _start(small, "hog", program=HOG)

    told = json.loads(_await(small, "hog-end")["detail"])

    assert told["containers"][0]["exitCode"] == 137
    assert "OutOfMemoryError" in told["containers"][0]["reason"]


def test_machines_do_not_reach_each_other_but_themselves(small: Small) -> None:
    listens = "import http.server as h; h.HTTPServer(('0.0.0.0', 2280), h.BaseHTTPRequestHandler).serve_forever()"
    _start(small, "listens", program=listens)
    address = _address(small, "listens")
    assert _reachable(address)
    asks = PROGRAM.replace("SECONDS", "0").replace(
        "said = {", f"import socket as s\nsaid = {{'reached': s.socket().connect_ex(('{address}', 2280)), "
    )
    _start(small, "asks", program="import socket; socket.setdefaulttimeout(2)\n" + asks)

    assert _await(small, "asks")["state"] == "started"
    assert _said(small, "asks")["reached"] != 0


def test_machines_outlive_the_stand_in_and_are_known_to_it_again(small: Small) -> None:
    _start(small, "stays", seconds=3600)
    _await(small, "stays")
    before = _task(small, "stays")
    assert small.cloud.process
    small.cloud.process.kill()
    small.cloud.process.wait()

    small.cloud.start()
    small.cloud.await_ready()
    small.deploy()

    after = _task(small, "stays")
    assert after["lastStatus"] == "RUNNING"
    assert (after["taskArn"], _where(after)) == (before["taskArn"], _where(before))
    assert small.ask("GET", "/machines/stays")["state"] == "started"


def _start(small: Small, id: str, *, seconds: float = 0, program: str = "") -> None:
    program = program or PROGRAM.replace("SECONDS", str(seconds))
    small.ask("POST", "/machines", {"id": id, "program": program, "cpu": "256", "memory": "512"})


def _await(small: Small, id: str) -> dict[str, Any]:
    """The row, once it is there and its machine is up."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        row: dict[str, Any] | None = small.ask("GET", f"/machines/{id}")
        if row and row.get("state") != "starting":
            return row
        time.sleep(0.05)
    raise AssertionError(f"{id} did not come: {row}")


def _said(small: Small, id: str) -> dict[str, Any]:
    """What the machine said in its hello, as its workflow has it."""
    workflows = boto3.client("stepfunctions", endpoint_url=small.ports.cloud_url)
    arn = f"arn:aws:states:us-east-1:000000000000:execution:small-start:{id}"
    said: dict[str, Any] = json.loads(workflows.describe_execution(executionArn=arn)["output"])["hello"]["said"]
    return said


def _task(small: Small, id: str) -> dict[str, Any]:
    ecs = boto3.client("ecs", endpoint_url=small.ports.cloud_url)
    arns = ecs.list_tasks(cluster="small", startedBy=id)["taskArns"]
    task: dict[str, Any] = ecs.describe_tasks(cluster="small", tasks=arns)["tasks"][0]
    return task


def _where(task: dict[str, Any]) -> str:
    return str(task["attachments"][0]["details"][-1]["value"])


def _address(small: Small, id: str) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if (task := _task(small, id))["lastStatus"] == "RUNNING":
            return _where(task)
        time.sleep(0.1)
    raise AssertionError(f"{id} does not run")


def _reachable(address: str) -> bool:
    import socket

    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, 2280)) == 0:
                return True
        time.sleep(0.1)
    return False
