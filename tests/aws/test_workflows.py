"""The workflows' files, as Step Functions reads them: run by the stand-in's interpreter over the world in memory."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from ministack.core.responses import request_scope
from ministack.services import stepfunctions

from chalicelib import tasks
from chalicelib.aws.workflows import StepFunctions
from chalicelib.core import lifecycle
from chalicelib.core.errors import NotFound, Unavailable
from chalicelib.core.lifecycle import Wish
from chalicelib.core.sandbox import Filter, Sandbox, Size
from chalicelib.core.states import WORKFLOW, Event, State
from tests.examples import OWNER
from tests.fakes import Execution
from tests.playing import House

FILES = Path(__file__).parents[2] / "infra" / "workflows"
MACHINES = "arn:aws:states:us-east-1:000000000000:stateMachine:test-"
SUBSTITUTIONS = {
    "Cluster": "the-cluster",
    "TaskDefinition": "the-family",
    "CapacityProvider": "FARGATE",
    "Subnets": "subnet-1,subnet-2",
    "SecurityGroup": "sg-1",
    "AssignPublicIp": "ENABLED",
    "Tasks": "the-function",
}
PATIENCE_SECONDS = 5.0


class Interpreter:
    """What Step Functions' client is to the adapter, with ECS and Lambda behind it as the house has them."""

    def __init__(self, *, hurried: bool = False) -> None:
        self.house = House()
        adapter = StepFunctions({"stepfunctions": self}, machines=MACHINES, control="unix:/door")  # type: ignore[arg-type]
        self.world = replace(self.house.world, workflows=adapter)
        self.house.world = self.world
        self.asked_of_ecs: list[dict[str, Any]] = []
        self.ecs_refusals: list[str] = []
        self.no_capacity = 0
        self.lambda_refusals = 0
        for path in FILES.glob("*.asl.json"):
            name = path.name.removesuffix(".asl.json")
            definition = re.sub(r"\$\{(\w+)\}", lambda found: SUBSTITUTIONS[found[1]], path.read_text())
            if hurried:
                definition = definition.replace('"TimeoutSeconds": 300', '"TimeoutSeconds": 1')
            stepfunctions._create_state_machine({"name": f"test-{name}", "definition": definition, "roleArn": "any"})

    def start_execution(self, **said: Any) -> Any:
        return _answer(stepfunctions._start_execution(said))

    def describe_execution(self, **said: Any) -> Any:
        return _answer(stepfunctions._describe_execution(said))

    def send_task_success(self, **said: Any) -> Any:
        return _answer(stepfunctions._send_task_success(said))

    def send_task_failure(self, **said: Any) -> Any:
        return _answer(stepfunctions._send_task_failure(said))

    def call_lambda(self, function: str, event: dict[str, Any]) -> Any:
        assert function == "the-function"
        if self.lambda_refusals:
            self.lambda_refusals -= 1
            raise stepfunctions._ExecutionError("Lambda.ServiceException", "not now")
        return tasks.perform(self.world, event)

    def run_task(self, _: str, said: dict[str, Any]) -> dict[str, Any]:
        self.asked_of_ecs.append(said)
        if self.ecs_refusals:
            raise stepfunctions._ExecutionError(self.ecs_refusals.pop(), "ECS said so")
        if self.no_capacity:
            self.no_capacity -= 1
            return {"Tasks": [], "Failures": [{"Reason": "Capacity is unavailable at this time."}]}
        task = self.house.machines.launch(said["StartedBy"])
        if not self.house.agents_are_mute:
            env = {pair["Name"]: pair["Value"] for pair in said["Overrides"]["ContainerOverrides"][0]["Environment"]}
            sandbox = self.world.sandboxes.incarnated(said["StartedBy"])
            self.house.hello(Execution("start", said["StartedBy"], sandbox, {"boot": env["SANDBAR_BOOT"]}), task)
        return {"Tasks": [{"TaskArn": task.machine.task}], "Failures": []}

    def stop_task(self, _: str, said: dict[str, Any]) -> dict[str, Any]:
        self.asked_of_ecs.append(said)
        if self.ecs_refusals:
            raise stepfunctions._ExecutionError(self.ecs_refusals.pop(), "ECS said so")
        self.house.machines.stop(said["Task"], said["Reason"])
        return {}

    def list_tasks(self, _: str, said: dict[str, Any]) -> dict[str, Any]:
        running = [t for t in self.house.machines.tasks if t.movement == said["StartedBy"] and t.running]
        return {"TaskArns": [task.machine.task for task in running]}

    def ended(self, sandbox: Sandbox) -> str:
        """How the execution of its present movement ended."""
        arn = f"{MACHINES}{WORKFLOW[sandbox.state]}:{sandbox.movement}".replace(":stateMachine:", ":execution:")
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and stepfunctions._executions[arn]["status"] == "RUNNING":
            time.sleep(0.01)
        return str(stepfunctions._executions[arn]["status"])

    def asked(self, sandbox: Sandbox, event: Event) -> str:
        """How the execution of what is asked for ended."""
        return self.ended(lifecycle.ask(self.world, OWNER, sandbox.id, event))

    def created(self, **wishes: Any) -> Sandbox:
        """A sandbox whose start has ended."""
        made = lifecycle.create(self.world, OWNER, Wish(**wishes))
        self.ended(made)
        return self.now(made)

    def now(self, sandbox: Sandbox) -> Sandbox:
        return lifecycle.get(self.world, OWNER, sandbox.id)


def _answer(reply: tuple[int, Any, bytes | str]) -> Any:
    status, _, body = reply
    said = json.loads(body)
    if status >= 400:
        raise ClientError({"Error": {"Code": said["__type"], "Message": said["message"]}}, "any")
    return said


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Interpreter]]:
    """Makes interpreters that do not wait."""
    with request_scope("000000000000", "us-east-1"):
        monkeypatch.setattr(stepfunctions, "_SFN_WAIT_SCALE", 0)

        def made(**how: Any) -> Interpreter:
            interpreter = Interpreter(**how)
            monkeypatch.setattr(stepfunctions, "_call_lambda", interpreter.call_lambda)
            for name in ("run_task", "stop_task", "list_tasks"):
                action = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
                resource = f"arn:aws:states:::aws-sdk:ecs:{action}"
                monkeypatch.setitem(stepfunctions._SERVICE_DISPATCH, resource, getattr(interpreter, name))
            return interpreter

        yield made
        stepfunctions.reset()


@pytest.fixture
def aws(make: Callable[..., Interpreter]) -> Interpreter:
    return make()


def test_every_workflow_of_the_core_has_a_file_and_no_other() -> None:
    assert {path.name.removesuffix(".asl.json") for path in FILES.iterdir()} == set(WORKFLOW.values())


def test_a_start_runs_a_task_as_large_as_was_asked_for(aws: Interpreter) -> None:
    made = aws.created(size=Size(cpu=0.5, memory_mib=1024, disk_gib=30))

    (said,) = aws.asked_of_ecs
    container = said["Overrides"]["ContainerOverrides"][0]
    environment = {pair["Name"]: pair["Value"] for pair in container["Environment"]}
    assert made.state is State.STARTED
    assert (said["StartedBy"], said["ClientToken"]) == (made.incarnation, f"{made.incarnation}-0")
    assert len(said["ClientToken"]) <= 64
    assert (said["Overrides"]["Cpu"], said["Overrides"]["Memory"]) == ("512", "1024")
    assert (container["Cpu"], container["Memory"]) == (512, 1024)
    assert said["Overrides"]["EphemeralStorage"] == {"SizeInGiB": 30}
    assert said["NetworkConfiguration"]["AwsvpcConfiguration"]["Subnets"] == ["subnet-1", "subnet-2"]
    assert environment["SANDBAR_SANDBOX"] == made.id
    assert set(environment) == {"SANDBAR_SANDBOX", "SANDBAR_CONTROL", "SANDBAR_BOOT"}


def test_a_start_ends_well_when_the_machine_says_hello_later(aws: Interpreter) -> None:
    aws.house.agents_are_mute = True
    made = lifecycle.create(aws.world, OWNER, Wish())
    _eventually(lambda: bool(aws.now(made).waiter))
    (task,) = aws.house.machines.tasks
    boot = aws.asked_of_ecs[0]["Overrides"]["ContainerOverrides"][0]["Environment"][2]["Value"]

    aws.house.hello(Execution("start", made.movement, made, {"boot": boot}), task)

    assert aws.ended(made) == "SUCCEEDED"
    assert aws.now(made).state is State.STARTED


def test_a_start_that_ecs_refuses_for_now_is_tried_again_under_the_same_token(aws: Interpreter) -> None:
    aws.ecs_refusals = ["Ecs.EcsException", "Ecs.ServerException", "Ecs.ClientException"]

    assert aws.created().state is State.STARTED
    assert len({said["ClientToken"] for said in aws.asked_of_ecs}) == 1
    assert len(aws.asked_of_ecs) == 4


def test_a_start_waits_for_capacity_under_a_new_token_each_time(aws: Interpreter) -> None:
    aws.no_capacity = 8

    assert aws.created().state is State.STARTED
    assert len({said["ClientToken"] for said in aws.asked_of_ecs}) == 9


def test_a_start_for_which_there_is_no_capacity_fails_in_words(aws: Interpreter) -> None:
    aws.no_capacity = 100

    failed = aws.created()

    assert failed.state is State.FAILED
    assert failed.reason == "AWS has no machine of this size to give just now; try again later"
    assert len(aws.asked_of_ecs) == 9


def test_a_start_that_ecs_will_never_take_fails_at_once(aws: Interpreter) -> None:
    aws.ecs_refusals = ["Ecs.InvalidParameterException"]

    failed = aws.created()

    assert (failed.state, failed.reason) == (State.FAILED, "Ecs.InvalidParameterException: ECS said so")
    assert len(aws.asked_of_ecs) == 1


def test_a_machine_that_stays_mute_is_stopped_when_the_time_is_up(make: Callable[..., Interpreter]) -> None:
    aws = make(hurried=True)
    aws.house.agents_are_mute = True

    failed = aws.created()

    assert failed.reason == "its machine did not report within five minutes"
    assert not any(task.running for task in aws.house.machines.tasks)


def test_a_machine_that_dies_on_its_way_up_ends_the_workflow(aws: Interpreter) -> None:
    aws.house.agents_are_mute = True
    made = lifecycle.create(aws.world, OWNER, Wish())
    _eventually(lambda: bool(aws.now(made).waiter))

    aws.house.die(aws.house.machines.tasks[0], "its image cannot be fetched")

    assert aws.ended(made) == "FAILED"
    assert (aws.now(made).state, aws.now(made).reason) == (State.FAILED, "its image cannot be fetched")


def test_what_our_function_cannot_do_at_once_is_done_later(aws: Interpreter) -> None:
    aws.ecs_refusals, aws.lambda_refusals = ["Ecs.InvalidParameterException"], 3

    assert aws.created().state is State.FAILED


def test_a_stop_saves_the_disk_and_a_start_has_it(aws: Interpreter) -> None:
    made = aws.created()
    aws.house.task_of(made).disk["/home/a"] = b"kept"

    assert aws.asked(made, Event.STOP) == "SUCCEEDED"
    assert aws.now(made).state is State.STOPPED
    assert not any(task.running for task in aws.house.machines.tasks)
    assert aws.asked(made, Event.START) == "SUCCEEDED"
    assert aws.house.task_of(aws.now(made)).disk == {"/home/a": b"kept"}


def test_a_stop_whose_task_is_gone_already_is_a_stop(aws: Interpreter) -> None:
    made = aws.created()
    aws.ecs_refusals = ["Ecs.InvalidParameterException"]

    assert aws.asked(made, Event.STOP) == "SUCCEEDED"
    assert aws.now(made).state is State.STOPPED


def test_a_stop_that_ecs_refuses_for_now_is_tried_again(aws: Interpreter) -> None:
    made = aws.created()
    aws.ecs_refusals = ["Ecs.EcsException", "Ecs.EcsException"]

    assert aws.asked(made, Event.STOP) == "SUCCEEDED"


def test_a_disk_that_cannot_be_saved_fails_the_stop_and_keeps_the_machine(aws: Interpreter) -> None:
    made = aws.created()
    aws.house.agents_cannot_save = "no space left on device"

    assert aws.asked(made, Event.STOP) == "FAILED"
    assert aws.now(made).reason == "the disk could not be saved: no space left on device"
    assert aws.house.task_of(aws.now(made)).running


def test_a_stop_asks_an_agent_that_is_on_its_way_back_again(aws: Interpreter) -> None:
    made = aws.created()
    address = aws.house.task_of(made).machine.address
    agent, silences = aws.house.agents.answers[address], iter(range(3))

    def slow(*said: Any) -> Any:
        if next(silences, None) is not None:
            raise Unavailable("the sandbox does not answer")
        return agent(*said)

    aws.house.agents.answers[address] = slow

    assert aws.asked(made, Event.STOP) == "SUCCEEDED"
    assert aws.now(made).state is State.STOPPED


def test_an_archive_only_says_so(aws: Interpreter) -> None:
    made = aws.created()
    aws.asked(made, Event.STOP)

    assert aws.asked(made, Event.ARCHIVE) == "SUCCEEDED"
    assert aws.now(made).state is State.ARCHIVED
    assert aws.asked(made, Event.START) == "SUCCEEDED"
    assert aws.now(made).state is State.STARTED


@pytest.mark.parametrize("refusals", [[], ["Ecs.InvalidParameterException"], ["Ecs.EcsException"]])
def test_a_delete_stops_every_machine_and_forgets(aws: Interpreter, refusals: list[str]) -> None:
    made = aws.created()
    second = aws.house.machines.launch(made.incarnation)
    aws.ecs_refusals = list(refusals)

    assert aws.asked(made, Event.DELETE) == "SUCCEEDED"

    with pytest.raises(NotFound):
        aws.now(made)
    assert refusals or not second.running
    assert lifecycle.list_page(aws.world, OWNER, Filter()).items == ()


def test_a_delete_of_what_has_no_machine_forgets(aws: Interpreter) -> None:
    made = aws.created()
    aws.asked(made, Event.STOP)

    assert aws.asked(made, Event.DELETE) == "SUCCEEDED"

    with pytest.raises(NotFound):
        aws.now(made)


def _eventually(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)
