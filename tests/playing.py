"""Sets the world in memory in motion: plays the workflows as infra/workflows has them, with machines whose agents behave."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from chalicelib import tasks
from chalicelib.core import checkpoints, movements
from chalicelib.core.agent_errors import from_agent
from chalicelib.core.errors import Refused
from chalicelib.core.sandbox import Sandbox
from chalicelib.core.world import Settings, World
from tests.fakes import (
    Agents,
    Audit,
    Blobs,
    Clock,
    Execution,
    Keys,
    Machines,
    Organizations,
    Sandboxes,
    Task,
    Workflows,
)

SECRET = b"a secret of thirty-two characters"
MOST_TRIES = 4
TIMED_OUT = {"Error": "States.Timeout", "Cause": ""}
REFUSED_BY_ECS = {"Error": "ECS.ClientException", "Cause": "no such task definition"}


class House:
    """A whole installation in memory. What goes wrong in it is switched on by its attributes."""

    def __init__(self, settings: Settings | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.audit = Audit(self.clock)
        self.organizations = Organizations(self.clock, self.audit)
        self.sandboxes = Sandboxes(self.clock, self.organizations, self.audit)
        self.keys = Keys(self.audit)
        self.workflows = Workflows()
        self.machines = Machines()
        self.blobs = Blobs()
        self.agents = Agents()
        self.ecs_refuses = False
        self.agents_are_mute = False
        self.agents_are_quick = False  # quicker than the workflow, which has not come to wait for them yet
        self.agents_cannot_restore = ""
        self.agents_cannot_save = ""
        self.world = World(
            sandboxes=self.sandboxes,
            keys=self.keys,
            workflows=self.workflows,
            machines=self.machines,
            blobs=self.blobs,
            agents=self.agents,
            organizations=self.organizations,
            audit=self.audit,
            clock=self.clock,
            settings=settings or Settings(secret=SECRET, url="http://127.0.0.1:8080"),
        )

    def play(self) -> None:
        """Run every execution as far as it goes, and those that begin meanwhile."""
        while ready := [e for e in self.workflows.executions.values() if e.ready]:
            for execution in ready:
                if not execution.begun:
                    execution.begun = True
                    BEGIN[execution.workflow](self, execution)
                if execution.told and execution.status == "RUNNING":
                    self._go_on(execution, execution.told)

    def time_out(self, sandbox: Sandbox) -> None:
        """The time that a workflow's task may wait is over."""
        for execution in self.workflows.executions.values():
            if execution.movement == sandbox.movement and execution.status == "RUNNING":
                self._give_up(execution, TIMED_OUT)

    def task_of(self, sandbox: Sandbox) -> Task:
        """The machine that a sandbox is now."""
        return next(t for t in self.machines.tasks if sandbox.machine and t.machine == sandbox.machine)

    def die(self, task: Task, reason: str = "it ran out of memory") -> None:
        """A machine ends by itself, and EventBridge tells."""
        task.running = False
        self.agents.answers.pop(task.machine.address, None)
        movements.lost(self.world, task.machine.task, task.movement, reason)

    def hello(self, execution: Execution, task: Task) -> None:
        """What the agent in a new machine does."""
        try:
            answer = movements.boot(self.world, execution.more["boot"])
            task.token = answer["agent_token"]
            if answer["restore"]:
                disk = json.loads(self.blobs.fetch(answer["restore"]["url"]))
                task.disk = {path: content.encode() for path, content in disk.items()}
            self.agents.answers[task.machine.address] = Agent(self, task)
            movements.arrive(self.world, task.token, error=self.agents_cannot_restore or None)
        except Refused:
            task.running = False  # the agent ends with 78

    def _start(self, execution: Execution) -> None:
        if self.ecs_refuses:
            self._give_up(execution, REFUSED_BY_ECS)
            return
        task = self.machines.launch(execution.movement)
        expecting = {"task": "expect", "task_token": execution.token, **_named(execution)}
        if not self.agents_are_quick:
            tasks.perform(self.world, expecting)
        if not self.agents_are_mute:
            self.hello(execution, task)
        if self.agents_are_quick:
            tasks.perform(self.world, expecting)

    def _stop(self, execution: Execution) -> None:
        tasks.perform(self.world, {"task": "save", "task_token": execution.token, **_named(execution)})

    def _delete(self, execution: Execution) -> None:
        self.machines.stop_all(execution.sandbox.incarnation, "its sandbox was deleted")
        self._settle(execution)

    def _settle(self, execution: Execution) -> None:
        tasks.perform(self.world, {"task": "settle", **_named(execution)})
        execution.status = "SUCCEEDED"

    def _go_on(self, execution: Execution, told: Mapping[str, Any]) -> None:
        """The waiting task was answered."""
        if told.get("Error") == "Sandbar.TryAgain" and execution.tries < MOST_TRIES:
            execution.tries, execution.begun, execution.told = execution.tries + 1, False, None
        elif "Error" in told:
            self._give_up(execution, told)
        elif execution.workflow == "stop":
            self.machines.stop(execution.more["task"], "its sandbox was stopped")
            self._settle(execution)
        else:
            execution.status = "SUCCEEDED"

    def _give_up(self, execution: Execution, error: Mapping[str, Any]) -> None:
        execution.status = "FAILED"
        event = {"task": "give_up", "workflow": execution.workflow, "error": error, **_named(execution)}
        tasks.perform(self.world, event)


BEGIN: dict[str, Callable[[House, Execution], None]] = {
    "start": House._start,
    "stop": House._stop,
    "archive": House._settle,
    "delete": House._delete,
}


class Agent:
    """What answers in a machine: claims and checkpoints; its disk is the task's."""

    def __init__(self, house: House, task: Task) -> None:
        self._house, self._task = house, task

    def __call__(self, token: str, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if token != self._task.token:
            raise from_agent({"error": "unauthorized", "message": "not our token"}, 401)
        if path == "/claim":
            self._task.token = body["agent_token"]
        if path == "/checkpoints":
            self._save(body)
        return {"state": "failed"} if path.startswith("/checkpoints/") else {"status": "ok"}

    def _save(self, body: Mapping[str, Any]) -> None:
        """Sends the disk at once, which a real one does after its answer."""
        raw = json.dumps({path: content.decode() for path, content in self._task.disk.items()}).encode()
        problem = self._house.agents_cannot_save or None
        etags = [] if problem else [self._house.blobs.send(body["part_urls"][0], raw)]
        checkpoints.saved(
            self._house.world,
            self._task.token,
            checkpoint=body["id"],
            etags=etags,
            size=len(raw),
            sha256="0" * 64,
            error=problem,
        )


def _named(execution: Execution) -> dict[str, str]:
    return {"owner": execution.sandbox.owner, "id": execution.sandbox.id, "movement": execution.movement}
