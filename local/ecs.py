"""The stand-in's ECS with machines of ours in place of its own Docker client, and ECS's events, which it does not send."""

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from ministack.core.responses import new_uuid, request_scope
from ministack.services import ecs, eventbridge, stepfunctions

from local.engine import OUT_OF_MEMORY, TASK_LABEL, Engine, EngineRefused, Machine, Order

log = logging.getLogger("sandbar.ecs")

ACCOUNT, REGION = "000000000000", "us-east-1"
TASK_ARN_LABEL = "com.amazonaws.ecs.task-arn"
# What is remembered of a task on its machine. No environment: it holds tokens.
KEPT = ("taskArn", "clusterArn", "taskDefinitionArn", "group", "startedBy", "launchType", "cpu", "memory", "createdAt",
        "tags", "platformVersion", "platformFamily", "availabilityZone", "_network_mode", "_subnet")  # fmt: skip
CPU_UNITS = 1024
STOP_SECONDS = 5.0
HOSTNAME_LETTERS = 63
RESUMED_AT_ONCE = 4


def install(engine: Engine, deployed: Callable[[], object]) -> None:
    """Let ECS run its tasks on this engine, take back those that it still has, and tell EventBridge how each fares.

    `deployed` returns once the control plane answers: machines that are started again speak to it at once.
    """
    removals = ThreadPoolExecutor(max_workers=4, thread_name_prefix="remove")
    ecs._docker = SimpleNamespace(containers=_Containers(engine, removals), images=SimpleNamespace())
    # It would look at every task ten times a second; the engine tells us when one ends.
    ecs._watch_task_lifecycle = _no_need_to_look
    ecs._mark_task_running = _then_tell(ecs._mark_task_running)
    ecs._mark_task_stopped = _then_tell(_with_reason(engine, ecs._mark_task_stopped))
    engine.on_exit(lambda machine: _exited(engine, machine))
    stopped = [machine for machine in map(adopt, engine.all()) if not machine.running]
    threading.Thread(target=_revive, args=(engine, stopped, deployed), name="revive", daemon=True).start()


def _no_need_to_look(*args: Any) -> None: ...


def adopt(machine: Machine) -> Machine:
    """Make ECS know this machine as the task that it was started for: running, or about to."""
    kept = json.loads(machine.labels[TASK_LABEL])
    arn = kept["taskArn"]
    status = "RUNNING" if machine.running else "PENDING"
    container = {
        "containerArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:container/{new_uuid()}",
        "taskArn": arn,
        "name": kept.pop("_container"),
        "image": kept.pop("_image"),
        "lastStatus": status,
        "runtimeId": machine.id[:12],
        "exitCode": None,
        "networkBindings": [],
        "networkInterfaces": [],
        "healthStatus": "UNKNOWN",
    }
    task = {
        **kept,
        "lastStatus": status,
        "desiredStatus": "RUNNING",
        "connectivity": "CONNECTED",
        "startedAt": kept["createdAt"],
        "stoppedAt": None,
        "stoppedReason": "",
        "stopCode": "",
        "version": 3,
        "containers": [container],
        "attachments": [],
        "overrides": {"containerOverrides": []},
        "healthStatus": "UNKNOWN",
        "_docker_ids": [machine.id],
        "_startup_stable": True,
        "_container_essentials": [True],
    }
    with request_scope(ACCOUNT, REGION):
        ecs._tasks[arn] = task
        ecs._record_task_ip(task, _Container(machine), None)
    return machine


def _revive(engine: Engine, stopped: Sequence[Machine], deployed: Callable[[], object]) -> None:
    """Start again what was stopped with the stack, or by a reboot.

    A machine that nobody wants any more is told so when its agent speaks, and ends.
    """
    deployed()
    with ThreadPoolExecutor(max_workers=RESUMED_AT_ONCE) as pool:
        list(pool.map(lambda machine: _revive_one(engine, machine), stopped))


def _revive_one(engine: Engine, machine: Machine) -> None:
    try:
        adopt(engine.resume(machine.id))
    except EngineRefused as refusal:
        log.warning("a machine cannot be started again: %s", refusal)
        _gone(machine, f"CannotStartContainerError: {refusal}")


def _gone(machine: Machine, reason: str) -> None:
    """Tell ECS that this task is no more. What is left of its disk stays where it is, for a person to look at."""
    arn = json.loads(machine.labels[TASK_LABEL])["taskArn"]
    with request_scope(ACCOUNT, REGION):
        ecs._mark_task_stopped(arn, ecs._tasks[arn], reason, "TaskFailedToStart")


class _Containers:
    """As much of docker-py's `client.containers` as the stand-in's ECS uses."""

    def __init__(self, engine: Engine, removals: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._removals = removals

    def run(self, image: str, **kwargs: Any) -> "_Container":
        return self._hold(self._engine.start(_order(image, kwargs)))

    def get(self, id: str) -> "_Container":
        machine = self._engine.get(id)
        if machine is None:
            raise EngineRefused(f"there is no container {id!r}")
        return self._hold(machine)

    def list(self, **kwargs: Any) -> list["_Container"]:
        """Nothing: what the stand-in lists, it lists to remove, and which machines go is not for it to say."""
        return []

    def _hold(self, machine: Machine) -> "_Container":
        return _Container(machine, lambda: self._removals.submit(_remove, self._engine, machine.id))


class _Container:
    """As much of docker-py's container as the stand-in's ECS uses."""

    def __init__(self, machine: Machine, remove: Callable[[], object] = lambda: None) -> None:
        self.id = machine.id
        self.status = "running" if machine.running else "exited"
        self.attrs = {"NetworkSettings": {"Networks": {"bridge": {"IPAddress": machine.address}}}}
        self._exit_code = machine.exit_code
        self._remove = remove

    def reload(self) -> None:
        """What `get` returned is as new as anything that the engine could say."""

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self._exit_code or 0}

    def logs(self, **kwargs: Any) -> bytes:
        return b""

    def stop(self, timeout: float) -> None:
        """Done by `remove`, which always follows, on a thread of its own: StopTask does not wait in AWS either."""

    def remove(self, **kwargs: Any) -> None:
        self._remove()


def _remove(engine: Engine, id: str) -> None:
    engine.stop(id, STOP_SECONDS)
    engine.remove(id)


def _order(image: str, kwargs: Mapping[str, Any]) -> Order:
    arn = kwargs["labels"][TASK_ARN_LABEL]
    with request_scope(ACCOUNT, REGION):
        task = ecs._tasks[arn]
        stored = ecs._task_defs[ecs._resolve_td_key(task["taskDefinitionArn"])]["containerDefinitions"][0]
    # What CloudFormation registers keeps its own spelling below the first level.
    definition = stepfunctions._pascal_to_camel(stored)
    # RunTask may give a task other sizes than its definition, which the stand-in takes no notice of.
    task |= {name: size for name in ("cpu", "memory") if (size := task["overrides"].get(name))}
    # The stand-in adds addresses and credentials of its own; a sandbox holds none.
    environment = {
        name: value for name, value in kwargs["environment"].items() if not name.startswith(("AWS_", "ECS_"))
    }
    kept = {name: task.get(name) for name in KEPT}
    kept |= {"_container": definition["name"], "_image": image}
    linux = definition.get("linuxParameters") or {}
    name = arn.rsplit("/", 1)[-1]
    return Order(
        name=name,
        hostname=environment.get("SANDBAR_SANDBOX", name)[:HOSTNAME_LETTERS],
        image=image,
        environment=environment,
        labels={TASK_LABEL: json.dumps(kept)},
        cpus=int(task["cpu"]) / CPU_UNITS,
        memory_mib=int(task["memory"]),
        entry_point=_words(definition.get("entryPoint")),
        command=_words(kwargs.get("command")),
        init=bool(linux.get("initProcessEnabled")),
    )


def _words(command: str | Sequence[str] | None) -> tuple[str, ...]:
    return ("sh", "-c", command) if isinstance(command, str) else tuple(command or ())


def _then_tell(mark: Callable[..., bool]) -> Callable[..., bool]:
    def mark_and_tell(task_arn: str, task: dict[str, Any], *args: Any, **kwargs: Any) -> bool:
        marked = mark(task_arn, task, *args, **kwargs)
        if marked:
            _tell(task)
        return marked

    return mark_and_tell


def _with_reason(engine: Engine, mark: Callable[..., bool]) -> Callable[..., bool]:
    def mark_with_reason(task_arn: str, task: dict[str, Any], *args: Any, **kwargs: Any) -> bool:
        for container, id in zip(task.get("containers", []), task.get("_docker_ids") or [], strict=False):
            machine = engine.get(id)
            if machine and machine.out_of_memory:
                container["reason"] = OUT_OF_MEMORY
        return mark(task_arn, task, *args, **kwargs)

    return mark_with_reason


def _tell(task: Mapping[str, Any]) -> None:
    """Send ECS's own event; AWS does so at every change, and the control plane learns from it that a sandbox died."""
    names = (
        "taskArn",
        "clusterArn",
        "lastStatus",
        "desiredStatus",
        "stoppedReason",
        "stopCode",
        "startedBy",
        "group",
        "attachments",
    )
    containers = [
        {
            name: container.get(name)
            for name in ("name", "exitCode", "reason", "lastStatus", "containerArn")
            if container.get(name) is not None
        }
        for container in task.get("containers", [])
    ]
    detail = {**{name: task.get(name) for name in names}, "containers": containers}
    entry = {
        "Source": "aws.ecs",
        "DetailType": "ECS Task State Change",
        "Detail": json.dumps(detail),
        "Resources": [task["taskArn"]],
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def _exited(engine: Engine, machine: Machine) -> None:
    arn = json.loads(machine.labels[TASK_LABEL])["taskArn"]
    with request_scope(ACCOUNT, REGION):
        task = ecs._tasks.get(arn)
        if task:
            words = engine.last_words(machine.id)
            log.warning("task of %s ended with code %s: %s", task.get("startedBy"), machine.exit_code, words)
            ecs._maybe_mark_stopped(task)
    # A stopped task has no disk in Fargate; what is to be kept, the agent has saved before.
    with contextlib.suppress(EngineRefused):
        engine.remove(machine.id)
