"""Step Functions, ECS, S3 and the agents: what their keepers promise, and what they make of AWS's refusals."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws
from pynamodb.exceptions import PutError

from chalicelib.aws.agents import HttpAgents
from chalicelib.aws.blobs import S3Blobs
from chalicelib.aws.clients import Clients
from chalicelib.aws.errors import turning
from chalicelib.aws.machines import EcsMachines
from chalicelib.aws.secret import secret_text
from chalicelib.aws.workflows import StepFunctions
from chalicelib.core import errors
from chalicelib.core.errors import Conflict, NotFound, Refused, TooLarge, Unavailable
from chalicelib.core.sandbox import Size
from chalicelib.core.world import Blobs, Workflows
from tests import fakes
from tests.aws.conftest import AS_ANYBODY
from tests.examples import sandbox

MACHINES = "arn:aws:states:us-east-1:123456789012:stateMachine:test-"
ROLE = "arn:aws:iam::123456789012:role/any"
HOUR = timedelta(hours=1)

_numbers = itertools.count(1)


# ---------------------------------------------------------------- Step Functions


@pytest.fixture
def step_functions() -> Iterator[StepFunctions]:
    """Step Functions with a workflow that waits for its token, which it puts in a queue."""
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        clients = Clients(**AS_ANYBODY)
        queue = clients["sqs"].create_queue(QueueName="tokens")["QueueUrl"]
        waiting = {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "Parameters": {"QueueUrl": queue, "MessageBody.$": "$$.Task.Token"},
            "End": True,
        }
        definition = json.dumps({"StartAt": "Wait", "States": {"Wait": waiting}})
        clients["stepfunctions"].create_state_machine(name="test-start", definition=definition, roleArn=ROLE)
        yield StepFunctions(clients, machines=MACHINES, control="unix:/door")


@pytest.fixture(params=["memory", "moto"])
def workflows(request: pytest.FixtureRequest) -> Workflows:
    """Every keeper of `Workflows`."""
    return fakes.Workflows() if request.param == "memory" else request.getfixturevalue("step_functions")


def test_a_workflow_runs_from_its_start_until_its_task_is_answered(workflows: Workflows) -> None:
    assert not workflows.running("start", "m-1")

    workflows.start("start", "m-1", sandbox(), boot="token")

    assert workflows.running("start", "m-1")
    assert not workflows.running("start", "m-2")
    assert workflows.succeed(_token(workflows), {"task": "t"})


def test_starting_a_movement_again_is_harmless(workflows: Workflows) -> None:
    one = sandbox()
    workflows.start("start", "m-1", one, boot="first")

    workflows.start("start", "m-1", one, boot="second")

    assert workflows.running("start", "m-1")
    assert workflows.succeed(_token(workflows), {})


def test_a_token_that_nobody_waits_for_is_told_so(workflows: Workflows) -> None:
    assert not workflows.succeed("nobody's", {})
    assert not workflows.fail("nobody's", "because")


def _token(workflows: Workflows) -> str:
    if isinstance(workflows, fakes.Workflows):
        return next(iter(workflows.executions))
    queues = Clients(**AS_ANYBODY)["sqs"]
    url = queues.get_queue_url(QueueName="tokens")["QueueUrl"]
    found = (queues.receive_message(QueueUrl=url).get("Messages") for _ in _moments())
    return str(next(messages[0]["Body"] for messages in found if messages))


def _moments() -> Iterator[int]:
    """Four seconds in short steps."""
    for moment in range(200):
        yield moment
        time.sleep(0.02)


def test_a_workflow_is_told_all_that_its_file_uses(step_functions: StepFunctions) -> None:
    one = sandbox(incarnation="m-0", size=Size(cpu=0.5, memory_mib=1024, disk_gib=3))

    step_functions.start("start", "m-1", one, boot="token")

    arn = f"{MACHINES}start:m-1".replace("stateMachine", "execution")
    said = Clients(**AS_ANYBODY)["stepfunctions"].describe_execution(executionArn=arn)["input"]
    assert json.loads(said) == {
        "owner": one.owner,
        "id": one.id,
        "movement": "m-1",
        "incarnation": "m-0",
        "control": "unix:/door",
        "cpu": 512,
        "memory": 1024,
        "disk": 21,
        "tries": 0,
        "boot": "token",
    }
    assert step_functions.succeed(_token(step_functions), {})


# ---------------------------------------------------------------- ECS


@pytest.fixture
def cluster(moto_clients: Clients) -> str:
    """A cluster with our task definition."""
    moto_clients["ecs"].create_cluster(clusterName="test")
    container = {"name": "sandbox", "image": "any", "cpu": 256, "memory": 512}
    moto_clients["ecs"].register_task_definition(
        family="test-sandbox",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    return "test"


def test_a_movements_machine_is_found_stopped_and_gone(moto_clients: Clients, cluster: str) -> None:
    machines, task = EcsMachines(moto_clients, cluster=cluster), _run_task(moto_clients, "m-1")
    found = machines.started_by("m-1")
    assert found is not None
    assert found.task == task
    assert found.address.endswith(":2280")
    assert machines.started_by("m-2") is None

    machines.stop(task, "because " * 100)

    assert machines.started_by("m-1") is None


def test_every_machine_of_a_movement_can_be_stopped(moto_clients: Clients, cluster: str) -> None:
    machines = EcsMachines(moto_clients, cluster=cluster)
    for movement in ("m-1", "m-1", "m-2"):
        _run_task(moto_clients, movement)

    machines.stop_all("m-1", "because")

    assert machines.started_by("m-1") is None
    assert machines.started_by("m-2") is not None


def _run_task(clients: Clients, movement: str) -> str:
    subnet = clients["ec2"].describe_subnets()["Subnets"][0]["SubnetId"]
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": []}}
    answer = clients["ecs"].run_task(
        cluster="test",
        taskDefinition="test-sandbox",
        launchType="FARGATE",
        startedBy=movement,
        networkConfiguration=network,
    )
    return str(answer["tasks"][0]["taskArn"])


# ---------------------------------------------------------------- S3


@pytest.fixture(params=["memory", "moto", "nanio"])
def blobs(request: pytest.FixtureRequest) -> Blobs:
    """Every keeper of `Blobs`."""
    if request.param == "memory":
        return fakes.Blobs()
    return _bucket(request.getfixturevalue(f"{request.param}_clients"))


@pytest.fixture(params=["memory", "nanio"])
def forgetful(request: pytest.FixtureRequest) -> Blobs:
    """Those that may be asked for an upload that is gone: moto fails at it."""
    return fakes.Blobs() if request.param == "memory" else _bucket(request.getfixturevalue("nanio_clients"))


def _bucket(clients: Clients) -> S3Blobs:
    name = f"test-{next(_numbers)}"
    clients["s3"].create_bucket(Bucket=name)
    return S3Blobs(clients, bucket=name)


def test_parts_become_one_object(blobs: Blobs) -> None:
    upload = blobs.begin("checkpoints/a")
    urls = blobs.part_urls("checkpoints/a", upload, 1, 2)
    parts = [b"x" * 5 * 1024 * 1024, b"end"]

    size = blobs.complete("checkpoints/a", upload, [_send(blobs, *pair) for pair in zip(urls, parts, strict=True)])

    assert size == len(parts[0]) + 3
    assert _fetch(blobs, blobs.url("checkpoints/a", HOUR)) == b"".join(parts)


def test_an_upload_that_is_completed_twice_is_one_object(blobs: Blobs) -> None:
    upload = blobs.begin("checkpoints/a")
    etag = _send(blobs, blobs.part_urls("checkpoints/a", upload, 1, 1)[0], b"content")

    sizes = [blobs.complete("checkpoints/a", upload, [etag]), blobs.complete("checkpoints/a", upload, [etag])]

    assert sizes == [7, 7]


def test_an_upload_with_a_wrong_part_is_refused(blobs: Blobs) -> None:
    upload = blobs.begin("checkpoints/a")
    etag = _send(blobs, blobs.part_urls("checkpoints/a", upload, 1, 1)[0], b"content")

    for wrong in ([etag, etag], ['"0123456789abcdef0123456789abcdef"'], []):
        with pytest.raises(Conflict):
            blobs.complete("checkpoints/a", upload, wrong)


def test_an_abandoned_upload_cannot_be_completed(forgetful: Blobs) -> None:
    upload = forgetful.begin("checkpoints/a")
    etag = _send(forgetful, forgetful.part_urls("checkpoints/a", upload, 1, 1)[0], b"content")

    forgetful.abandon("checkpoints/a", upload)
    forgetful.abandon("checkpoints/a", upload)

    with pytest.raises(Conflict):
        forgetful.complete("checkpoints/a", upload, [etag])


def test_all_below_a_prefix_goes_and_nothing_else(blobs: Blobs) -> None:
    for name in ("a/1", "a/2", "b/1"):
        upload = blobs.begin(name)
        blobs.complete(name, upload, [_send(blobs, blobs.part_urls(name, upload, 1, 1)[0], name.encode())])

    blobs.remove("a/")
    blobs.remove("a/")

    assert _fetch(blobs, blobs.url("b/1", HOUR)) == b"b/1"
    with pytest.raises((KeyError, OSError)):
        _fetch(blobs, blobs.url("a/1", HOUR))


def test_a_removed_object_takes_none_along_whose_key_begins_with_its_own(blobs: Blobs) -> None:
    for name in ("a/id-5", "a/id-52"):
        upload = blobs.begin(name)
        blobs.complete(name, upload, [_send(blobs, blobs.part_urls(name, upload, 1, 1)[0], name.encode())])

    blobs.remove("a/id-5")
    blobs.remove("a/id-5")

    assert _fetch(blobs, blobs.url("a/id-52", HOUR)) == b"a/id-52"
    with pytest.raises((KeyError, OSError)):
        _fetch(blobs, blobs.url("a/id-5", HOUR))


def _send(blobs: Blobs, url: str, content: bytes) -> str:
    if isinstance(blobs, fakes.Blobs):
        return blobs.send(url, content)
    return str(requests.put(url, content, timeout=5).headers["ETag"])


def _fetch(blobs: Blobs, url: str) -> bytes:
    if isinstance(blobs, fakes.Blobs):
        return blobs.fetch(url)
    answer = requests.get(url, timeout=5)
    answer.raise_for_status()
    return answer.content


# ---------------------------------------------------------------- agents


@pytest.fixture
def agent() -> Iterator[Callable[[int, bytes], str]]:
    """Lets an agent answer with a status and a body, and says its address."""
    answer: dict[str, Any] = {}

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert (self.headers["authorization"], said) == ("Bearer secret", {"a": 1})
            self.send_response(answer["status"])
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def told(status: int, body: bytes) -> str:
            answer.update(status=status, body=body)
            return f"127.0.0.1:{server.server_port}"

        yield told
        server.shutdown()


def _ask(address: str) -> Any:
    return HttpAgents(timeout=2).ask(address, "secret", "POST", "/exec", {"a": 1})


def test_an_agents_answer_is_its_json(agent: Callable[[int, bytes], str]) -> None:
    assert _ask(agent(200, b'{"exit_code": 0}')) == {"exit_code": 0}
    assert _ask(agent(202, b"")) == {}


@pytest.mark.parametrize(
    ("status", "body", "refusal"),
    [
        (404, b'{"error": "not_found", "message": "no such session"}', errors.NotFound),
        (409, b'{"error": "conflict", "message": "busy"}', errors.Conflict),
        (401, b'{"error": "unauthorized", "message": "who?"}', errors.Unavailable),
        (500, b"<html>", errors.Unavailable),
        (500, b'{"error": "made up"}', errors.Unavailable),
        (200, b"[1]", errors.Unavailable),
        (200, b"{", errors.Unavailable),
        (200, b"[" * 1_000_000, errors.Unavailable),
        (200, b" " * (4 * 1024 * 1024 + 1), errors.Unavailable),
    ],
)
def test_an_agents_refusal_is_ours(
    agent: Callable[[int, bytes], str], status: int, body: bytes, refusal: type[Refused]
) -> None:
    with pytest.raises(refusal) as refused:
        _ask(agent(status, body))

    assert type(refused.value) is refusal


def test_an_agent_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        _ask("127.0.0.1:9")


# ---------------------------------------------------------------- errors and secrets


def _said(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "PutItem")


@pytest.mark.parametrize(
    ("problem", "ours"),
    [
        (_said("ThrottlingException"), Unavailable),
        (PutError("failed", _said("ProvisionedThroughputExceededException")), Unavailable),
        (EndpointConnectionError(endpoint_url="http://nowhere"), Unavailable),
        (PutError("failed", EndpointConnectionError(endpoint_url="http://nowhere")), Unavailable),
        (PutError("failed", _said("ValidationException", "Item size has exceeded the maximum")), TooLarge),
        (PutError("failed", _said("Expected")), NotFound),
        (_said("Expected"), NotFound),
        (_said("AccessDeniedException"), ClientError),
        (PutError("failed", _said("ValidationException", "no such attribute")), PutError),
    ],
)
def test_a_code_of_aws_becomes_an_error_of_ours(problem: Exception, ours: type[Exception]) -> None:
    with pytest.raises(ours), turning(Expected=NotFound("expected")):
        raise problem


def test_the_secret_is_read_from_secrets_manager(moto_clients: Clients) -> None:
    arn = moto_clients["secretsmanager"].create_secret(Name="test", SecretString="s" * 64)["ARN"]

    assert secret_text(moto_clients, arn) == "s" * 64
