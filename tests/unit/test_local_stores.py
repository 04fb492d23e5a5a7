"""What a template declares is kept where it lasts: tables in dynoxide, whose process is the real one."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from local import install
from local.children import Child, free_ports, listens

TABLE: dict[str, Any] = {
    "TableName": "things",
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "TimeToLiveSpecification": {"AttributeName": "expires", "Enabled": True},
    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
}
INDEX = {
    "IndexName": "by-kind",
    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "KEYS_ONLY"},
}
KIND = {"AttributeName": "kind", "AttributeType": "S"}
PUT = "arn:aws:states:::dynamodb:putItem"
UPDATE = "arn:aws:states:::aws-sdk:dynamodb:updateItem"


class StandIn:
    """A fresh stand-in beside a real store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.provisioners: Any = importlib.import_module("ministack.services.cloudformation.provisioners")
        self.workflows: Any = importlib.import_module("ministack.services.stepfunctions")
        self.memory: Any = importlib.import_module("ministack.services.dynamodb")
        self.stores: Any = importlib.import_module("local.stores")
        self.client = boto3.client("dynamodb", endpoint_url=url)

    def install(self) -> None:
        self.stores.install(self.stores.Stores(tables_url=self.url, objects_url="http://127.0.0.1:1"))

    def create(self, **more: Any) -> str:
        handler = self.provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]
        return str(handler["create"]("Things", {**TABLE, **more}, "stack")[0])


@pytest.fixture(name="stand_in")
def a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    (port,) = free_ports(1)
    command = [
        str(install.dynoxide()),
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--db-path",
        str(tmp_path / "db"),
    ]
    store = Child("dynoxide", command, os.environ, tmp_path / "log", listens(port))
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_theirs(name)}
    store.start()
    store.await_ready()
    fresh = StandIn(f"http://127.0.0.1:{port}")
    yield fresh
    fresh.client.close()
    store.end()
    for name in [name for name in sys.modules if _is_theirs(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def test_a_table_of_the_template_is_made_where_it_lasts(stand_in: StandIn) -> None:
    stand_in.create()
    assert "things" in stand_in.memory._tables  # which would be gone with the process

    stand_in.install()
    stand_in.create()

    assert stand_in.client.describe_table(TableName="things")["Table"]["TableStatus"] == "ACTIVE"
    assert (
        stand_in.client.describe_time_to_live(TableName="things")["TimeToLiveDescription"]["AttributeName"] == "expires"
    )


def test_deploying_again_keeps_what_a_table_holds(stand_in: StandIn) -> None:
    stand_in.install()
    stand_in.create()
    stand_in.client.put_item(TableName="things", Item={"id": {"S": "1"}})

    stand_in.create()
    stand_in.provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]["delete"]("things", {})

    assert stand_in.client.get_item(TableName="things", Key={"id": {"S": "1"}})["Item"]


def test_a_later_template_may_add_an_index(stand_in: StandIn) -> None:
    stand_in.install()
    stand_in.create()
    stand_in.client.put_item(TableName="things", Item={"id": {"S": "1"}, "kind": {"S": "k"}})

    stand_in.create(AttributeDefinitions=[*TABLE["AttributeDefinitions"], KIND], GlobalSecondaryIndexes=[INDEX])

    asked = {"KeyConditionExpression": "kind = :k", "ExpressionAttributeValues": {":k": {"S": "k"}}}
    assert stand_in.client.query(TableName="things", IndexName="by-kind", **asked)["Count"] == 1


def test_a_workflow_writes_to_the_same_table(stand_in: StandIn) -> None:
    stand_in.install()
    stand_in.create()

    stand_in.workflows._SERVICE_DISPATCH[PUT](PUT, {"TableName": "things", "Item": {"id": {"S": "2"}}})
    stand_in.workflows._invoke_aws_sdk_integration(
        UPDATE,
        {
            "TableName": "things",
            "Key": {"id": {"S": "2"}},
            "UpdateExpression": "SET kind = :k",
            "ExpressionAttributeValues": {":k": {"S": "k"}},
        },
    )

    assert stand_in.client.get_item(TableName="things", Key={"id": {"S": "2"}})["Item"]["kind"] == {"S": "k"}


@pytest.mark.parametrize(
    ("resource", "error"),
    [
        (PUT, "DynamoDB.ConditionalCheckFailedException"),
        ("arn:aws:states:::aws-sdk:dynamodb:putItem", "DynamoDb.ConditionalCheckFailedException"),
    ],
)
def test_a_refused_write_has_the_name_that_workflows_catch(stand_in: StandIn, resource: str, error: str) -> None:
    stand_in.install()
    stand_in.create()
    put = {"TableName": "things", "Item": {"id": {"S": "3"}}, "ConditionExpression": "attribute_exists(id)"}

    with pytest.raises(stand_in.workflows._ExecutionError) as refused:
        stand_in.workflows._invoke_resource(resource, put)

    assert refused.value.error == error


def test_what_was_written_survives_a_kill(tmp_path: Path, stand_in: StandIn) -> None:
    stand_in.install()
    stand_in.create()
    stand_in.client.put_item(TableName="things", Item={"id": {"S": "4"}, "text": {"S": json.dumps("x" * 1000)}})
    (port,) = free_ports(1)

    command = [
        str(install.dynoxide()),
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--db-path",
        str(tmp_path / "db"),
    ]
    another = Child("dynoxide", command, os.environ, tmp_path / "log2", listens(port))
    _kill_listeners(stand_in.url)
    another.start()
    another.await_ready()

    client = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}")
    assert client.get_item(TableName="things", Key={"id": {"S": "4"}})["Item"]
    client.close()
    another.end()


def _kill_listeners(url: str) -> None:
    port = url.rpartition(":")[2]
    for folder in Path("/proc").glob("[0-9]*"):
        if f"--port\0{port}\0".encode() in _command(folder):
            os.kill(int(folder.name), 9)


def _command(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def _is_theirs(name: str) -> bool:
    return name == "local.stores" or name.split(".")[0] == "ministack"
