"""What AWS reports, told to a person."""

from typing import Any

import pytest

from chalicelib import events, tasks
from tests.playing import House


@pytest.mark.parametrize(
    ("workflow", "error", "told"),
    [
        ("start", {"Error": "Sandbar.Refused", "Cause": "because"}, "because"),
        ("start", {"Error": "States.Timeout", "Cause": ""}, "its machine did not report within five minutes"),
        (
            "stop",
            {"Error": "States.Timeout"},
            "its disk was not saved within the time given; its machine still runs",
        ),
        ("start", {"Error": "Ecs.ClientException", "Cause": "no such image"}, "Ecs.ClientException: no such image"),
        ("start", {"Error": "KeyError", "Cause": '{"errorMessage": "x", "trace": []}'}, "KeyError: x"),
        ("start", {"Error": "KeyError", "Cause": '["not", "ours"]'}, 'KeyError: ["not", "ours"]'),
        ("start", {"Error": "Long", "Cause": "x" * 9999}, "Long: " + "x" * 500),
        ("start", {"Error": "Mute", "Cause": ""}, "Mute"),
        ("start", {}, "the workflow failed without saying why"),
    ],
)
def test_a_workflows_error_is_a_sentence(workflow: str, error: dict[str, Any], told: str) -> None:
    assert tasks.readable(workflow, error) == told


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        (
            {
                "stoppedReason": "OutOfMemoryError: Container killed due to memory usage",
                "containers": [{"exitCode": 137}],
            },
            "it ran out of memory (OutOfMemoryError: Container killed due to memory usage)",
        ),
        (
            {"stoppedReason": "Essential container exited", "containers": [{"reason": "OutOfMemoryError: killed"}]},
            "it ran out of memory (OutOfMemoryError: killed)",
        ),
        (
            {"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: not found"},
            "its image cannot be fetched (CannotPullContainerError: not found)",
        ),
        ({"stopCode": "SpotInterruption", "stoppedReason": ""}, "AWS took its machine back (SpotInterruption)"),
        ({"containers": [{"exitCode": 78}]}, "its machine ended with exit code 78"),
        (
            {"stoppedReason": "Essential container in task exited", "containers": [{"exitCode": 1}]},
            "its machine ended with exit code 1 (Essential container in task exited)",
        ),
        ({}, "its machine ended"),
        ({"stoppedReason": "x" * 9999}, "its machine ended (" + "x" * 200 + ")"),
    ],
)
def test_the_end_of_a_task_is_a_sentence(detail: dict[str, Any], told: str) -> None:
    assert events.reason(detail) == told


@pytest.mark.parametrize("starter", [{}, {"startedBy": ""}, {"startedBy": "ecs-svc/123"}])
def test_a_task_that_is_not_ours_is_passed_over(starter: dict[str, str]) -> None:
    events.task_stopped(House().world, {"taskArn": "arn:task", **starter})
