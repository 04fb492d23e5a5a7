"""ECS: the tasks that sandboxes are. Workflows start and stop them; here they are found, and stopped where nothing moves."""

from typing import Any

from chalicelib.aws.clients import Clients
from chalicelib.aws.errors import turning
from chalicelib.core.errors import NotFound
from chalicelib.core.sandbox import Machine

AGENT_PORT = 2280
LONGEST_REASON = 255


class EcsMachines:
    """`Machines`, kept by ECS."""

    def __init__(self, clients: Clients, *, cluster: str) -> None:
        self._clients, self._cluster = clients, cluster

    def started_by(self, movement: str) -> Machine | None:
        """Two calls, one where there is none. A task has its address before its container runs."""
        tasks = self._tasks(movement)
        if not tasks:
            return None
        with turning():
            described = self._client.describe_tasks(cluster=self._cluster, tasks=tasks)["tasks"]
        found = (
            Machine(task["taskArn"], f"{address}:{AGENT_PORT}") for task in described if (address := _address(task))
        )
        return next(found, None)

    def stop(self, task: str, reason: str) -> None:
        """One call."""
        try:
            with turning(InvalidParameterException=NotFound("the task is gone")):
                self._client.stop_task(cluster=self._cluster, task=task, reason=reason[:LONGEST_REASON])
        except NotFound:
            return

    def stop_all(self, movement: str, reason: str) -> None:
        """One call to find them, one for each that is found."""
        for task in self._tasks(movement):
            self.stop(task, reason)

    def _tasks(self, movement: str) -> list[str]:
        with turning():
            answer = self._client.list_tasks(cluster=self._cluster, startedBy=movement, desiredStatus="RUNNING")
        return list(answer["taskArns"])

    @property
    def _client(self) -> Any:
        return self._clients["ecs"]


def _address(task: dict[str, Any]) -> str | None:
    """The private IPv4 address of its network interface; the attachment tells it first, then each container."""
    for attachment in task.get("attachments", []):
        for detail in attachment.get("details", []):
            if detail["name"] == "privateIPv4Address":
                return str(detail["value"])
    for container in task.get("containers", []):
        for interface in container.get("networkInterfaces", []):
            if interface.get("privateIpv4Address"):
                return str(interface["privateIpv4Address"])
    return None
