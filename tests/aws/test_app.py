"""app.py as AWS calls it: events in, answers and log lines out, on moto."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

import app as handlers
from chalicelib import gateway, journal, wiring
from chalicelib.aws.clients import Clients
from chalicelib.core import access
from chalicelib.core.sandbox import Policy
from chalicelib.core.states import State
from tests.aws.conftest import create_tables
from tests.examples import OWNER, sandbox
from tests.fakes import BEGINNING
from tests.playing import SECRET

ROOT = Path(__file__).parents[2]
KEY = "administrators-key"
Log: TypeAlias = Callable[[], list[dict[str, Any]]]

ROLE = "arn:aws:iam::123456789012:role/any"
CONTEXT = SimpleNamespace(aws_request_id="request-1", function_name="any")
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "SANDBAR_TABLES": "app-",
    "SANDBAR_SECRET": SECRET.decode(),
    "SANDBAR_BUCKET": "app-checkpoints",
    "SANDBAR_CLUSTER": "app",
    "SANDBAR_WORKFLOWS": "arn:aws:states:us-east-1:123456789012:stateMachine:app-",
    "SANDBAR_URL": "https://sandboxes.example.com/",
}


@pytest.fixture(autouse=True)
def installed(moto_clients: Clients, template: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    create_tables(moto_clients, template, "app-")
    moto_clients["ecs"].create_cluster(clusterName="app")
    nothing = json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}})
    moto_clients["stepfunctions"].create_state_machine(name="app-delete", definition=nothing, roleArn=ROLE)
    wiring.world.cache_clear()
    access.admit_admin(wiring.world(), KEY, owner=OWNER, user="ada")
    yield
    wiring.world.cache_clear()


def ask(method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str) -> tuple[int, Any]:
    prefix = path.split("/")[1]
    resource = path if prefix == "health" else f"/{prefix}/{{path+}}"
    event = {
        "resource": resource,
        "path": path,
        "headers": {"authorization": f"Bearer {key}", **headers} if key else headers,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"path": path.split("/", 2)[-1]},
        "stageVariables": None,
        "body": body if isinstance(body, str) or body is None else json.dumps(body),
        "requestContext": {
            "resourcePath": resource,
            "httpMethod": method,
            "requestId": "request-1",
            "identity": {"sourceIp": "192.0.2.1"},
        },
    }
    answer = handlers.app(event, CONTEXT)
    json.dumps(answer)  # what Lambda does with it
    return answer["statusCode"], json.loads(answer["body"]) if answer["body"] else None


@pytest.fixture
def log() -> Iterator[Log]:
    """Gives what has been logged meanwhile."""
    handler, written = journal.log.registered_handler, io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(written)
    yield lambda: lines(written.getvalue())
    handler.setStream(before)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_it_is_healthy_without_a_key() -> None:
    assert ask("GET", "/health", key=None) == (200, {"status": "ok"})


def test_a_known_caller_is_answered() -> None:
    status, answer = ask("GET", "/daytona/sandbox")

    assert (status, answer if isinstance(answer, list) else answer["items"]) == (200, [])


def test_an_unknown_caller_is_refused_in_the_dialects_shape() -> None:
    status, answer = ask("GET", "/daytona/sandbox", key="wrong-key")

    assert status == 401
    assert answer["message"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "application/x-www-form-urlencoded"])
def test_a_body_is_read_whatever_it_is_said_to_be(content_type: str) -> None:
    status, _ = ask("POST", "/daytona/sandbox", "{", **{"content-type": content_type})

    assert status == 400


def test_an_agent_is_answered_in_its_own_shape() -> None:
    status, answer = ask("POST", "/agent/boot", {"sandbox": "x"}, key="forged")

    assert (status, answer["error"]) == (401, "unauthorized")


def test_every_dialect_has_a_route() -> None:
    for name in gateway.DIALECTS:
        assert set(handlers.app.routes[f"/{name}/{{path+}}"]) == set(handlers.METHODS)


def test_a_workflow_is_answered() -> None:
    event = {"task": "settle", "owner": OWNER, "id": "nobody", "movement": "nobody-1"}

    assert handlers.workflow(event, CONTEXT) == {}


EVENT = {
    "version": "0",
    "account": "123456789012",
    "region": "us-east-1",
    "detail-type": "ECS Task State Change",
    "source": "aws.ecs",
    "time": "2026-11-22T12:00:00Z",
    "id": "event-1",
    "resources": [],
}


def test_the_sweep_does_what_is_due() -> None:
    overdue = timedelta(days=400)
    policy = Policy(stop_after_idle=None, archive_after_stopped=None, expires_at=BEGINNING - overdue)
    made = wiring.world().sandboxes.add(sandbox(state=State.STOPPED, policy=policy))

    handlers.sweep_due({**EVENT, "detail-type": "Scheduled Event", "detail": {}}, CONTEXT)

    assert wiring.world().sandboxes.get(OWNER, made.id).state is State.DELETING


def test_the_end_of_a_machine_is_the_end_of_its_sandbox_being_started() -> None:
    made = wiring.world().sandboxes.add(sandbox(state=State.CREATING, incarnation="m-1", movement="m-1"))
    detail = {"taskArn": "arn:task", "startedBy": "m-1", "lastStatus": "STOPPED", "stopCode": "TaskFailedToStart"}

    handlers.task_stopped({**EVENT, "detail": detail}, CONTEXT)

    lost = wiring.world().sandboxes.get(OWNER, made.id)
    assert (lost.state, lost.reason) == (State.FAILED, "its machine ended (TaskFailedToStart)")


def test_an_answer_leaves_one_line_and_a_metric(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    ask("GET", "/daytona/sandbox")

    (line,), (metric,) = log(), lines(capsys.readouterr().out)
    assert (line["request"], line["method"], line["path"]) == ("request-1", "GET", "/daytona/sandbox")
    assert (line["outcome"], line["organization"]) == ("200", OWNER)
    assert (metric["answered"], metric["kind"]) == ([1.0], "Request")


def test_a_line_names_the_sandbox_that_was_asked_for(log: Log) -> None:
    ask("GET", "/daytona/sandbox/mine")

    assert [line["sandbox"] for line in log()] == ["mine"]


def test_no_line_holds_a_key_or_a_token(log: Log) -> None:
    ask("GET", "/daytona/sandbox", key="a-secret-key")
    ask("POST", "/agent/boot", {"sandbox": "x"}, key="a-secret-token")
    handlers.workflow({"task": "settle", "owner": "o", "id": "i", "movement": "m", "task_token": "a-secret"}, CONTEXT)

    assert len(log()) == 3
    assert "a-secret" not in str(log())


def test_what_goes_wrong_unexpectedly_is_logged_with_its_trace(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError):
        handlers.workflow({"task": "no such task"}, CONTEXT)

    assert [line["exception_name"] for line in log() if "exception" in line] == ["KeyError"]
    assert [metric["failed"] for metric in lines(capsys.readouterr().out)] == [[1.0]]


def test_what_goes_wrong_behind_http_is_a_500_and_logged_with_its_trace(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring.world.cache_clear()
    monkeypatch.delenv("SANDBAR_TABLES")

    assert ask("GET", "/daytona/sandbox")[0] == 500
    assert [line["exception_name"] for line in log() if "exception" in line] == ["KeyError"]


def test_a_secret_that_is_too_short_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wiring.world.cache_clear()
    monkeypatch.setenv("SANDBAR_SECRET", "short")

    with pytest.raises(ValueError, match="at least 32"):
        wiring.world()


def test_the_secret_is_fetched_where_it_is_not_given(moto_clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = moto_clients["secretsmanager"].create_secret(Name="app", SecretString="s" * 64)["ARN"]
    wiring.world.cache_clear()
    monkeypatch.delenv("SANDBAR_SECRET")
    monkeypatch.setenv("SANDBAR_SECRET_ARN", arn)

    assert wiring.world().settings.secret == b"s" * 64


def test_as_many_machines_are_kept_warm_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wiring.world.cache_clear()
    monkeypatch.setenv("SANDBAR_WARM", "3")

    assert [pool.count for pool in wiring.world().settings.pools] == [3]


def test_importing_the_app_imports_no_aws() -> None:
    program = "import app, sys; print({'botocore.session', 'pynamodb', 'boto3', 'chalicelib.aws'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
