"""DynamoDB and S3 of the stand-in keep everything in memory: what the template declares is made in durable stores instead.

Tables live in dynoxide, buckets in nanio. CloudFormation makes them there, and so do the calls that Step Functions makes.
"""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from ministack import app
from ministack.core.responses import get_account_id, get_region
from ministack.services import stepfunctions
from ministack.services.cloudformation import provisioners

# What CreateTable takes of a table's properties; the rest is set by calls of its own, or means nothing here.
CREATE = ("TableName", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "LocalSecondaryIndexes",
          "BillingMode", "ProvisionedThroughput", "StreamSpecification")  # fmt: skip
OPTIMIZED = ("putItem", "getItem", "deleteItem", "updateItem")
TIMEOUT_SECONDS = 30
# The store asks for the form of a signature, not for the signature.
UNSIGNED = {
    "X-Amz-Date": "20260101T000000Z",
    "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, "
    f"Signature={'0' * 64}",
}
RETRY = Config(retries={"max_attempts": 3, "mode": "standard"}, connect_timeout=5, read_timeout=30)


@dataclass(frozen=True)
class Stores:
    """Where the durable stores listen."""

    tables_url: str
    objects_url: str


def install(stores: Stores) -> None:
    """Send everything that the stand-in would keep in memory to the durable stores."""
    tables, buckets = _Tables(stores.tables_url), _Buckets(stores.objects_url)
    provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"] |= {
        "create": tables.create,
        "update": tables.update,
        "delete": _keep,
    }
    provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"] |= {
        "create": buckets.create,
        "update": buckets.update,
        "delete": _keep,
    }
    app.SERVICE_HANDLERS["dynamodb"] = tables.serve
    # The store qualifies an error's name, as AWS does on the wire and Step Functions does not in a state machine.
    prefixed = stepfunctions._prefix_sdk_error
    stepfunctions._prefix_sdk_error = lambda service, code: prefixed(service, code.rsplit("#", 1)[-1])
    for operation in OPTIMIZED:
        stepfunctions._SERVICE_DISPATCH[f"arn:aws:states:::dynamodb:{operation}"] = tables.task(operation)


def _keep(physical_id: str, props: Any) -> None:
    """What is durable goes when a person removes it, not when a stack is replaced."""


class _Tables:
    def __init__(self, url: str) -> None:
        self._url = url
        self._address = urlsplit(url).netloc
        # Lazily, as every client: making one costs a tenth of a second.
        self._client: Any = None

    def create(self, logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
        """The table, made or brought up to date: what it holds from earlier runs stays."""
        name = props["TableName"]
        try:
            described = self._dynamodb().describe_table(TableName=name)["Table"]
        except ClientError as problem:
            if problem.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            self._dynamodb().create_table(**_create_request(props))
        else:
            self._add_indexes(described, props)
        self._expire(name, props.get("TimeToLiveSpecification"))
        arn = f"arn:aws:dynamodb:{get_region()}:{get_account_id()}:table/{name}"
        return name, {"Arn": arn}

    def update(self, physical_id: str, old: Any, props: dict[str, Any], stack_name: str, logical_id: str = "") -> Any:
        return self.create(logical_id, props, stack_name)

    async def serve(self, method: str, path: str, headers: Mapping[str, str], body: Any, query: Any) -> Any:
        """One DynamoDB request, answered by the durable store."""
        target = headers.get("x-amz-target", "")
        status, answer = await asyncio.to_thread(self._post, target, body)
        return status, {"Content-Type": "application/x-amz-json-1.0"}, answer

    def task(self, operation: str) -> Any:
        """Step Functions' own integration of that operation, which the stand-in runs on its own memory."""
        target = f"DynamoDB_20120810.{operation[0].upper()}{operation[1:]}"

        def run(resource: str, input_data: Any) -> Any:
            status, answer = self._post(target, json.dumps(input_data))
            result = json.loads(answer or b"{}")
            if status >= 400:
                code = result.get("__type", "AmazonDynamoDBException").rsplit("#", 1)[-1]
                raise stepfunctions._ExecutionError(f"DynamoDB.{code}", result.get("message", ""))
            return result

        return run

    def _dynamodb(self) -> Any:
        if self._client is None:
            self._client = boto3.client("dynamodb", endpoint_url=self._url, config=RETRY)
        return self._client

    def _add_indexes(self, described: Mapping[str, Any], props: Mapping[str, Any]) -> None:
        """A later version of the template may ask for an index that the table does not have yet."""
        present = {index["IndexName"] for index in described.get("GlobalSecondaryIndexes", ())}
        for index in props.get("GlobalSecondaryIndexes", ()):
            if index["IndexName"] not in present:
                self._dynamodb().update_table(
                    TableName=props["TableName"],
                    AttributeDefinitions=props["AttributeDefinitions"],
                    GlobalSecondaryIndexUpdates=[{"Create": index}],
                )

    def _expire(self, name: str, specification: Mapping[str, Any] | None) -> None:
        if not specification:
            return
        found = self._dynamodb().describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        if found.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
            self._dynamodb().update_time_to_live(TableName=name, TimeToLiveSpecification=specification)

    def _post(self, target: str, body: Any) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        try:
            headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0", **UNSIGNED}
            connection.request("POST", "/", body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class _Buckets:
    def __init__(self, url: str) -> None:
        self._url = url

    def create(self, logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, str]]:
        """The bucket, made if it is missing."""
        name = props["BucketName"]
        client = boto3.client("s3", endpoint_url=self._url, config=RETRY)
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=name)
        return name, {"Arn": f"arn:aws:s3:::{name}", "DomainName": f"{name}.s3.amazonaws.com"}

    def update(self, physical_id: str, old: Any, props: dict[str, Any], stack_name: str, logical_id: str = "") -> Any:
        return self.create(logical_id, props, stack_name)


def _create_request(props: Mapping[str, Any]) -> dict[str, Any]:
    request = {name: props[name] for name in CREATE if name in props}
    if "StreamSpecification" in request:
        request["StreamSpecification"] = {"StreamEnabled": True, **request["StreamSpecification"]}
    return request
