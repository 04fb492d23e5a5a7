"""Step Functions: one execution a movement."""

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.aws.clients import Clients
from chalicelib.aws.errors import turning
from chalicelib.core.errors import Conflict, NotFound
from chalicelib.core.sandbox import Sandbox

LONGEST_ERROR, LONGEST_CAUSE = 256, 32_768  # what SendTaskFailure takes
LEAST_DISK_GIB = 21  # below that a task has 20 GiB without being asked, and may not ask for less


class StepFunctions:
    """`Workflows`, kept by Step Functions."""

    def __init__(self, clients: Clients, *, machines: str, control: str) -> None:
        """`machines` is what the state machines' ARNs begin with, `control` where agents find the control plane."""
        self._clients, self._prefix, self._control = clients, machines, control

    def start(self, workflow: str, movement: str, sandbox: Sandbox, **more: Any) -> None:
        """A movement that was started before is done: that is what the execution's name is for."""
        said = json.dumps(self._input(movement, sandbox, more))
        try:
            with turning(ExecutionAlreadyExists=Conflict("started before")):
                self._client.start_execution(stateMachineArn=self._prefix + workflow, name=movement, input=said)
        except Conflict:
            return

    def running(self, workflow: str, movement: str) -> bool:
        """One call. The execution's ARN follows from the state machine's and its name."""
        arn = (self._prefix + workflow).replace(":stateMachine:", ":execution:") + f":{movement}"
        try:
            with turning(ExecutionDoesNotExist=NotFound("no such execution")):
                answer = self._client.describe_execution(executionArn=arn)
        except NotFound:
            return False
        return str(answer["status"]) == "RUNNING"

    def succeed(self, task_token: str, output: Mapping[str, Any]) -> bool:
        """One call."""
        return self._tell(self._client.send_task_success, taskToken=task_token, output=json.dumps(output))

    def fail(self, task_token: str, reason: str, *, again: bool = False) -> bool:
        """One call. The error's name is what the state machines' Retry looks at; the cause is the sentence."""
        error = "Sandbar.TryAgain" if again else "Sandbar.Refused"
        tell = self._client.send_task_failure
        return self._tell(tell, taskToken=task_token, error=error, cause=reason[:LONGEST_CAUSE])

    def _tell(self, say: Any, **words: str) -> bool:
        gone = NotFound("nobody waits for it")
        try:
            with turning(TaskDoesNotExist=gone, TaskTimedOut=gone, InvalidToken=gone):
                say(**words)
        except NotFound:
            return False
        return True

    def _input(self, movement: str, sandbox: Sandbox, more: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "owner": sandbox.owner,
            "id": sandbox.id,
            "movement": movement,
            "incarnation": sandbox.incarnation,
            "control": self._control,
            "cpu": int(sandbox.size.cpu * 1024),  # in ECS's units
            "memory": sandbox.size.memory_mib,
            "disk": max(LEAST_DISK_GIB, sandbox.size.disk_gib),
            "tries": 0,
            **more,
        }

    @property
    def _client(self) -> Any:
        return self._clients["stepfunctions"]
