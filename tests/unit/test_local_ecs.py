"""ECS of the stand-in over an engine of ours: what a task becomes, what is told of it, what is found again."""

import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from local.engine import OUT_OF_MEMORY, TASK_LABEL, EngineRefused, Machine, Order

DEFINITION = {
    "family": "sandbox",
    "networkMode": "awsvpc",
    "cpu": "1024",
    "memory": "2048",
    "containerDefinitions": [{"name": "sandbox", "image": "image", "LinuxParameters": {"InitProcessEnabled": True}}],
}
STARTED, STOPPED = "RUNNING", "STOPPED"


class MemoryEngine:
    """An engine that remembers what it was asked for."""

    kind = "memory"

    def __init__(self, *machines: Machine) -> None:
        self.machines = {machine.id: machine for machine in machines}
        self.orders: list[Order] = []
        self.removed = threading.Event()
        self.refuses = ""
        self._tell: Callable[[Machine], None] | None = None

    def start(self, order: Order) -> Machine:
        if self.refuses:
            raise EngineRefused(self.refuses)
        self.orders.append(order)
        machine = Machine(f"id{len(self.orders)}", order.labels, running=True, address="10.0.0.9")
        self.machines[machine.id] = machine
        return machine

    def get(self, id: str) -> Machine | None:
        return self.machines.get(id)

    def all(self) -> list[Machine]:
        return list(self.machines.values())

    def stop(self, id: str, seconds: float) -> None: ...

    def resume(self, id: str) -> Machine:
        if self.refuses:
            raise EngineRefused(self.refuses)
        self.machines[id] = replace(self.machines[id], running=True, address="10.0.0.10")
        return self.machines[id]

    def remove(self, id: str) -> None:
        self.machines.pop(id, None)
        self.removed.set()

    def last_words(self, id: str) -> str:
        return "its last words"

    def on_exit(self, tell: Callable[[Machine], None]) -> None:
        self._tell = tell

    def close(self) -> None: ...

    def end(self, id: str, **how: Any) -> None:
        """The machine ends by itself."""
        self.machines[id] = replace(self.machines[id], running=False, **how)
        assert self._tell
        self._tell(self.machines[id])


class House:
    """A fresh ECS on an engine, with its events collected."""

    def __init__(self) -> None:
        self.theirs: Any = importlib.import_module("ministack.services.ecs")
        self.ours: Any = importlib.import_module("local.ecs")
        self.events: list[dict[str, Any]] = []
        self.told = threading.Condition()
        self.ours.eventbridge._put_events = self._put

    def install(self, engine: MemoryEngine) -> None:
        self.ours.install(engine, lambda: None)
        self.theirs._register_task_definition(DEFINITION)

    def run(self, **more: Any) -> str:
        wanted = {"cluster": "sandboxes", "taskDefinition": "sandbox", "startedBy": "movement-1", **more}
        return str(json.loads(self.theirs._run_task(wanted)[2])["tasks"][0]["taskArn"])

    def describe(self, arn: str) -> dict[str, Any]:
        found = self.theirs._describe_tasks({"cluster": "sandboxes", "tasks": [arn]})
        task: dict[str, Any] = json.loads(found[2])["tasks"][0]
        return task

    def event(self, status: str) -> dict[str, Any]:
        """The first event with that status, once it is there."""
        with self.told:
            assert self.told.wait_for(lambda: any(e["lastStatus"] == status for e in self.events), timeout=5)
        return next(event for event in self.events if event["lastStatus"] == status)

    def _put(self, data: dict[str, Any], allow_aws_source: bool) -> None:
        with self.told:
            self.events += [json.loads(entry["Detail"]) for entry in data["Entries"]]
            self.told.notify_all()


@pytest.fixture(name="house")
def a_house() -> Iterator[House]:
    names = [name for name in sys.modules if name == "local.ecs" or name.split(".")[0] == "ministack"]
    before = {name: sys.modules.pop(name) for name in names}
    fresh = House()
    with fresh.ours.request_scope("000000000000", "us-east-1"):
        yield fresh
    for name in [name for name in sys.modules if name == "local.ecs" or name.split(".")[0] == "ministack"]:
        del sys.modules[name]
    sys.modules.update(before)


def test_the_stand_in_by_itself_tells_of_no_task(house: House) -> None:
    house.theirs._register_task_definition(DEFINITION)
    house.theirs._get_docker = lambda: None

    house.theirs._stop_task({"cluster": "sandboxes", "task": house.run()})

    assert house.events == []


def test_a_task_becomes_a_machine_of_the_size_that_was_asked_for(house: House) -> None:
    engine = MemoryEngine()
    house.install(engine)

    arn = house.run(overrides={"cpu": "512", "memory": "1024", "containerOverrides": [_environment(A="1")]})
    house.event(STARTED)

    assert (engine.orders[0].cpus, engine.orders[0].memory_mib, engine.orders[0].init) == (0.5, 1024, True)
    assert (house.describe(arn)["cpu"], house.describe(arn)["memory"]) == ("512", "1024")


def test_a_machine_is_told_what_the_task_says_and_no_more(house: House) -> None:
    engine = MemoryEngine()
    house.install(engine)

    house.run(overrides={"containerOverrides": [_environment(SANDBAR_SANDBOX="s1", SANDBAR_BOOT="secret")]})
    house.event(STARTED)

    assert engine.orders[0].environment == {"SANDBAR_SANDBOX": "s1", "SANDBAR_BOOT": "secret"}
    assert engine.orders[0].hostname == "s1"
    assert "secret" not in json.dumps(dict(engine.orders[0].labels))


def test_its_address_is_where_aws_has_it(house: House) -> None:
    house.install(MemoryEngine())

    arn = house.run()
    house.event(STARTED)

    details = house.describe(arn)["attachments"][0]["details"]
    assert {"name": "privateIPv4Address", "value": "10.0.0.9"} in details


def test_a_machine_that_ends_is_told_of_with_its_reason(house: House) -> None:
    engine = MemoryEngine()
    house.install(engine)
    house.run()
    house.event(STARTED)

    engine.end("id1", exit_code=137, out_of_memory=True)

    told = house.event(STOPPED)
    assert (told["startedBy"], told["stopCode"]) == ("movement-1", "EssentialContainerExited")
    assert (told["containers"][0]["exitCode"], told["containers"][0]["reason"]) == (137, OUT_OF_MEMORY)
    assert engine.removed.is_set()


def test_a_machine_that_cannot_start_is_told_of_in_the_engine_s_words(house: House) -> None:
    engine = MemoryEngine()
    engine.refuses = "no space left on device"
    house.install(engine)

    house.run()

    told = house.event(STOPPED)
    assert told["stopCode"] == "TaskFailedToStart"
    assert "no space left on device" in told["stoppedReason"]


def test_a_stopped_task_s_machine_is_removed(house: House) -> None:
    engine = MemoryEngine()
    house.install(engine)
    arn = house.run()
    house.event(STARTED)

    house.theirs._stop_task({"cluster": "sandboxes", "task": arn, "reason": "enough"})

    assert engine.removed.wait(5)
    assert house.event(STOPPED)["stopCode"] == "UserInitiated"


def test_a_running_machine_is_found_again_as_its_task(house: House) -> None:
    engine = MemoryEngine()
    house.install(engine)
    arn = house.run()
    house.event(STARTED)
    house.theirs._tasks.clear()

    house.ours.adopt(engine.machines["id1"])

    found = house.describe(arn)
    assert (found["lastStatus"], found["startedBy"], found["containers"][0]["name"]) == (
        STARTED,
        "movement-1",
        "sandbox",
    )


def test_a_stopped_machine_is_started_again_and_has_its_new_address(house: House) -> None:
    house.install(engine := MemoryEngine())
    arn = house.run()
    house.event(STARTED)
    left = replace(engine.machines["id1"], running=False, address=None)
    house.theirs._tasks.clear()

    house.ours._revive(again := MemoryEngine(left), [house.ours.adopt(left)], lambda: None)

    assert again.machines["id1"].running
    assert house.describe(arn)["attachments"][0]["details"][-1]["value"] == "10.0.0.10"


def test_a_machine_that_cannot_be_started_again_is_a_task_that_ended(house: House) -> None:
    house.install(engine := MemoryEngine())
    house.run()
    house.event(STARTED)
    left = replace(engine.machines["id1"], running=False, address=None)
    broken = MemoryEngine(left)
    broken.refuses = "its disk is damaged"

    house.ours._revive(broken, [house.ours.adopt(left)], lambda: None)

    assert "its disk is damaged" in house.event(STOPPED)["stoppedReason"]
    assert "id1" in broken.machines


def test_what_a_machine_s_label_keeps_is_enough_and_small(house: House) -> None:
    house.install(engine := MemoryEngine())
    house.run()
    house.event(STARTED)

    label = engine.orders[0].labels[TASK_LABEL]

    assert len(label) < 2048
    assert json.loads(label)["startedBy"] == "movement-1"


def _environment(**variables: str) -> dict[str, Any]:
    return {"name": "sandbox", "environment": [{"name": name, "value": value} for name, value in variables.items()]}
