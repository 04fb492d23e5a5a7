"""What lies under the one address is AWS's own API: asked through localstack-client, as any AWS code would be.

`LOCALSTACK_HOST` (host:port) names another stand-in that runs this template; then that one is asked.
"""

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import localstack_client.session
import pytest

from tests.stack import Stack, running_stack

NAME = "sandbar-dev"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as stack:
        yield stack


@pytest.fixture
def aws(stack: Stack) -> localstack_client.session.Session:
    if "LOCALSTACK_HOST" in os.environ:
        return localstack_client.session.Session()
    return localstack_client.session.Session(localstack_host=urlsplit(stack.aws).netloc)


def test_the_stack_was_deployed_by_cloudformation(aws: localstack_client.session.Session) -> None:
    found = aws.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]

    assert found["StackStatus"] == "CREATE_COMPLETE"


def test_each_workflow_is_a_state_machine(aws: localstack_client.session.Session) -> None:
    machines = {m["name"] for m in aws.client("stepfunctions").list_state_machines()["stateMachines"]}

    assert machines == {f"{NAME}-{workflow}" for workflow in ("start", "stop", "archive", "delete")}


def test_a_sandbox_is_a_task_that_ecs_shows_and_no_longer_shows(
    stack: Stack, aws: localstack_client.session.Session
) -> None:
    ecs = aws.client("ecs")
    made = stack.ask("POST", "/daytona/sandbox", {"cpu": 2, "memory": 4}).json
    mine = _tasks(ecs)
    stack.ask("POST", f"/daytona/sandbox/{made['id']}/stop")

    assert made["state"] == "started"
    assert any(task["overrides"]["cpu"] == "2048" and task["startedBy"].startswith(made["id"]) for task in mine)
    assert not [task for task in _tasks(ecs) if task["startedBy"].startswith(made["id"])]
    stack.ask("DELETE", f"/daytona/sandbox/{made['id']}")


def _tasks(ecs: Any) -> list[dict[str, Any]]:
    arns = ecs.list_tasks(cluster=NAME)["taskArns"]
    return ecs.describe_tasks(cluster=NAME, tasks=arns)["tasks"] if arns else []
