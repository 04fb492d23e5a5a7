"""The stand-in for AWS still needs each patch, and each still does what it is there for.

The first half of a test fails when an upgrade makes its patch needless, the second when it makes it wrong.
"""

import importlib
import json
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

MACHINE = {"StartAt": "Pass", "States": {"Pass": {"Type": "Pass", "End": True}}}
CALLBACK = "arn:aws:states:::aws-sdk:sfn:listStateMachines.waitForTaskToken"

RUN_TASK = "arn:aws:states:::ecs:runTask"


class StandIn:
    """The modules of a stand-in that nobody has patched yet."""

    def __init__(self) -> None:
        self.patches: Any = _import("local.patches")
        self.provisioners: Any = _import("ministack.services.cloudformation.provisioners")
        self.stepfunctions: Any = _import("ministack.services.stepfunctions")
        self.runtime: Any = _import("ministack.core.lambda_runtime")
        self.ecs: Any = _import("ministack.services.ecs")
        self.responses: Any = _import("ministack.core.responses")


@pytest.fixture(name="stand_in")
def a_fresh_stand_in(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = {name: module for name, module in sys.modules.items() if _is_theirs(name)}
    for name in before:
        del sys.modules[name]
    fresh = StandIn()
    with fresh.responses.request_scope("000000000000", "us-east-1"):
        yield fresh
    for name in [name for name in sys.modules if _is_theirs(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def test_a_template_with_a_websocket_deployment_is_taken(stand_in: StandIn) -> None:
    handlers = stand_in.provisioners._RESOURCE_HANDLERS
    assert "AWS::ApiGatewayV2::Deployment" not in handlers

    stand_in.patches.accept_deployments()

    assert handlers["AWS::ApiGatewayV2::Deployment"]["create"]("Deployment", {}, "stack")[0]
    handlers["AWS::ApiGatewayV2::Deployment"]["delete"]("id", {})


@pytest.mark.parametrize("kind", ["AWS::ApiGateway::RestApi", "AWS::ApiGatewayV2::Api"])
def test_an_api_keeps_its_id_when_it_is_made_again(stand_in: StandIn, kind: str) -> None:
    handlers = stand_in.provisioners._RESOURCE_HANDLERS
    assert _made_twice(handlers[kind]) == 2

    stand_in.patches.pin_api_ids()

    assert _made_twice(handlers[kind]) == 1


def test_an_id_that_the_template_gives_an_api_is_kept(stand_in: StandIn) -> None:
    stand_in.patches.pin_api_ids()
    create = stand_in.provisioners._RESOURCE_HANDLERS["AWS::ApiGateway::RestApi"]["create"]

    id, _ = create("Api", {"Name": "api", "Tags": [{"Key": "ms-custom-id", "Value": "mine"}]}, "stack")

    assert id == "mine"


def test_an_invocation_waits_for_no_log(stand_in: StandIn) -> None:
    worker = stand_in.runtime.Worker("function", {}, b"")
    assert _seconds(worker._drain_stderr_bounded) > 0.04

    stand_in.patches.stop_waiting_for_stderr()
    worker._stderr_queue.put("a line")

    assert worker._drain_stderr_bounded() == "a line"
    assert _seconds(worker._drain_stderr_bounded) < 0.02


def test_an_execution_begins_at_once(stand_in: StandIn) -> None:
    clock = SleepRecorder()
    stand_in.stepfunctions.time = clock
    _run(stand_in.stepfunctions, "unpatched")
    assert clock.slept == [0.15]

    stand_in.patches.time = clock
    stand_in.patches.start_executions_at_once()
    _run(stand_in.stepfunctions, "patched")
    stand_in.stepfunctions.time.sleep(2)

    assert clock.slept == [0.15, 2]


def test_a_task_that_falls_silent_times_out_by_its_heartbeat(stand_in: StandIn) -> None:
    with pytest.raises(stand_in.stepfunctions._ExecutionError) as unpatched:
        _await_callback(stand_in, token="1")
    assert unpatched.value.error == "States.Timeout"

    stand_in.patches.enforce_heartbeats()
    with pytest.raises(stand_in.stepfunctions._ExecutionError) as patched:
        _await_callback(stand_in, token="2")

    assert patched.value.error == "States.HeartbeatTimeout"
    assert stand_in.stepfunctions._error_matches(["States.Timeout"], "States.HeartbeatTimeout")
    assert not stand_in.stepfunctions._error_matches(["ECS.ClientException"], "States.HeartbeatTimeout")


def test_a_refused_task_is_refused_in_ecs_s_own_word(stand_in: StandIn) -> None:
    wanted = {"Cluster": "c", "TaskDefinition": "unknown"}
    with pytest.raises(stand_in.stepfunctions._ExecutionError) as unpatched:
        stand_in.stepfunctions._SERVICE_DISPATCH[RUN_TASK](RUN_TASK, wanted)
    assert unpatched.value.error == "ECS.RunTaskFailed"

    stand_in.patches.answer_run_task_as_aws_does()
    with pytest.raises(stand_in.stepfunctions._ExecutionError) as patched:
        stand_in.stepfunctions._SERVICE_DISPATCH[RUN_TASK](RUN_TASK, wanted)

    assert patched.value.error == "ECS.ClientException"


def test_a_started_task_is_answered_as_aws_spells_it(stand_in: StandIn) -> None:
    definition = {"family": "f", "containerDefinitions": [{"name": "c", "image": "i"}]}
    stand_in.ecs._register_task_definition(definition)
    stand_in.ecs._get_docker = _no_docker
    unpatched = stand_in.stepfunctions._SERVICE_DISPATCH[RUN_TASK](RUN_TASK, {"TaskDefinition": "f"})
    assert "tasks" in unpatched

    stand_in.patches.answer_run_task_as_aws_does()
    patched = stand_in.stepfunctions._SERVICE_DISPATCH[RUN_TASK](RUN_TASK, {"TaskDefinition": "f"})

    assert patched["Tasks"][0]["Containers"][0]["Name"] == "c"


def test_all_patches_go_together(stand_in: StandIn) -> None:
    stand_in.patches.apply()

    assert _made_twice(stand_in.provisioners._RESOURCE_HANDLERS["AWS::ApiGateway::RestApi"]) == 1


class SleepRecorder:
    """A clock whose sleeps are written down and not slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def _no_docker() -> None: ...


def _does_nothing(resource: str, data: Any) -> None: ...


def _is_theirs(name: str) -> bool:
    return name == "local.patches" or name.split(".")[0] == "ministack"


def _import(name: str) -> ModuleType:
    return importlib.import_module(name)


def _made_twice(handler: dict[str, Any]) -> int:
    """How many ids an API gets when it is made, deleted and made again."""
    ids = set()
    for _ in range(2):
        id, _ = handler["create"]("Api", {"Name": "api", "ProtocolType": "WEBSOCKET"}, "stack")
        handler["delete"](id, {})
        ids.add(id)
    return len(ids)


def _seconds(call: Any) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def _run(stepfunctions: Any, name: str) -> None:
    """One execution from its start to its end, on this thread."""
    stepfunctions.threading = SimpleNamespace(Thread=_Sync)
    made = stepfunctions._create_state_machine(
        {"name": name, "definition": json.dumps(MACHINE), "roleArn": "arn:aws:iam::000000000000:role/r"}
    )
    arn = json.loads(made[2])["stateMachineArn"]
    started = stepfunctions._start_execution({"stateMachineArn": arn})
    assert stepfunctions._executions[json.loads(started[2])["executionArn"]]["status"] == "SUCCEEDED"


class _Sync:
    """A thread that runs where it is started."""

    def __init__(self, target: Any, args: Any, **kwargs: Any) -> None:
        self.start = lambda: target(*args)


def _await_callback(stand_in: StandIn, token: str) -> None:
    stand_in.stepfunctions._invoke_aws_sdk_integration = _does_nothing
    state = {"HeartbeatSeconds": 0.1, "TimeoutSeconds": 1}
    stand_in.stepfunctions._invoke_with_callback(CALLBACK, {}, token, state)
