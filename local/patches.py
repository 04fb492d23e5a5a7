"""Where the stand-in for AWS deviates from AWS, or waits where AWS does not: put right, each with its reason.

`tests/unit/test_local_patches.py` has a test for each that fails when an upgrade makes it wrong or needless.
"""

import contextvars
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import stepfunctions
from ministack.services.cloudformation import provisioners

Handler = Callable[..., Any]
HEARTBEAT_LOOK_SECONDS = 0.25


def apply() -> None:
    """Put everything right that needs no part of ours. Once per process, before the first request."""
    accept_deployments()
    pin_api_ids()
    stop_waiting_for_stderr()
    start_executions_at_once()
    enforce_heartbeats()
    answer_run_task_as_aws_does()


def accept_deployments() -> None:
    """CloudFormation refuses a template with AWS::ApiGatewayV2::Deployment, which Chalice writes for every WebSocket API.

    Routes serve without one here, so it need only exist.
    """
    provisioners._RESOURCE_HANDLERS["AWS::ApiGatewayV2::Deployment"] = {
        "create": _deployment,
        "delete": _nothing,
    }


def pin_api_ids() -> None:
    """An API gets a random id, and another when its properties change; its URL is in the edge's and the door's hands."""
    for kind, tags in (("AWS::ApiGateway::RestApi", _tag_list), ("AWS::ApiGatewayV2::Api", _tag_map)):
        handlers = provisioners._RESOURCE_HANDLERS[kind]
        handlers["create"] = _with_pinned_id(handlers["create"], tags)


def stop_waiting_for_stderr() -> None:
    """Each invocation waits up to 50 ms for a first line of a log that mostly stays empty: 54 ms become 2 ms.

    Lines that come later are collected by the next invocation's drain.
    """
    drain = lambda_runtime.Worker._drain_stderr

    def drained(worker: Any, *args: Any, **kwargs: Any) -> str:
        return str(drain(worker))

    lambda_runtime.Worker._drain_stderr_bounded = drained


def start_executions_at_once() -> None:
    """Every execution of a workflow sleeps 150 ms before its first state."""
    stepfunctions.time = _without_short_sleeps(time)


def enforce_heartbeats() -> None:
    """A task that waits for its token ignores HeartbeatSeconds, so a machine that never said hello is waited for long.

    In AWS both States.HeartbeatTimeout and States.Timeout match what is raised then.
    """
    invoke, matches = stepfunctions._invoke_with_callback, stepfunctions._error_matches

    def with_heartbeat(resource: str, input_data: Any, token: str, state: Mapping[str, Any]) -> Any:
        if seconds := state.get("HeartbeatSeconds"):
            # Tokens are kept apart by account and region, which a thread does not inherit by itself.
            watch = contextvars.copy_context().run
            threading.Thread(target=watch, args=(_watch_heartbeat, token, float(seconds)), daemon=True).start()
        return invoke(resource, input_data, token, state)

    stepfunctions._invoke_with_callback = with_heartbeat
    stepfunctions._error_matches = lambda wanted, error: (
        matches(wanted, error) or (error == "States.HeartbeatTimeout" and "States.Timeout" in wanted)
    )


def answer_run_task_as_aws_does() -> None:
    """ecs:runTask answers in camelCase and calls every refusal RunTaskFailed.

    AWS answers in PascalCase and names the error as ECS does, so that Retry can tell capacity from a wrong request.
    """
    run = stepfunctions._SERVICE_DISPATCH["arn:aws:states:::ecs:runTask"]

    def run_task(resource: str, input_data: Any) -> Any:
        if resource.endswith(".sync"):
            return run(resource, input_data)
        from ministack.services import ecs

        status, _, body = ecs._run_task(stepfunctions._pascal_to_camel(input_data))
        answer = json.loads(body)
        if status >= 400:
            raise stepfunctions._ExecutionError(f"ECS.{answer.get('__type', 'ServerException')}", answer["message"])
        return _pascal(answer)

    stepfunctions._SERVICE_DISPATCH["arn:aws:states:::ecs:runTask"] = run_task


def _deployment(logical_id: str, props: Any, stack_name: str) -> tuple[str, dict[str, str]]:
    return _stable_id(stack_name, logical_id), {}


def _nothing(physical_id: str, props: Any) -> None: ...


def _with_pinned_id(create: Handler, tagged: Callable[[Any, str], Any]) -> Handler:
    def create_pinned(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        tags = tagged(props.get("Tags"), _stable_id(stack_name, logical_id))
        return create(logical_id, {**props, "Tags": tags}, stack_name)

    return create_pinned


def _tag_list(tags: list[dict[str, str]] | None, id: str) -> list[dict[str, str]]:
    # The first of two with one key is overruled: whatever the template says itself, holds.
    return [{"Key": "ms-custom-id", "Value": id}, *(tags or [])]


def _tag_map(tags: dict[str, str] | None, id: str) -> dict[str, str]:
    return {"ms-custom-id": id, **(tags or {})}


def _stable_id(stack_name: str, logical_id: str) -> str:
    return hashlib.sha256(f"{stack_name}/{logical_id}".encode()).hexdigest()[:10]


class _without_short_sleeps:
    """The module `time`, but a sleep of exactly the starting delay does not happen."""

    START_DELAY = 0.15

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def sleep(self, seconds: float) -> None:
        if seconds != self.START_DELAY:
            self._clock.sleep(seconds)


def _watch_heartbeat(token: str, seconds: float) -> None:
    """Fail the task once nothing was heard for that long; end once the token is answered or withdrawn."""
    heard, due = None, time.monotonic() + seconds
    while (now := time.monotonic()) < due:
        time.sleep(min(HEARTBEAT_LOOK_SECONDS, due - now))
        task = stepfunctions._task_tokens.get(token)
        if task is None or task["event"].is_set():
            return
        if task["heartbeat"] != heard:
            heard, due = task["heartbeat"], time.monotonic() + seconds
    task["error"] = {"Error": "States.HeartbeatTimeout", "Cause": f"no heartbeat for {seconds:g} seconds"}
    task["event"].set()


def _pascal(value: Any) -> Any:
    if isinstance(value, list):
        return [_pascal(item) for item in value]
    if isinstance(value, dict):
        return {name[:1].upper() + name[1:]: _pascal(item) for name, item in value.items()}
    return value
