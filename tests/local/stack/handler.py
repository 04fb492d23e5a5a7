"""A control plane in miniature: an HTTP call starts a machine, the machine's hello completes the workflow."""

import json
import os
from typing import Any

import boto3


def api(event: dict[str, Any], context: object) -> dict[str, Any]:
    """POST /machines starts one; GET /machines/{id} tells of it; POST /agent/hello is what the machine says."""
    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    path, method = event["path"], event["httpMethod"]
    if path == "/machines" and method == "POST":
        body = json.loads(event["body"])
        table.put_item(Item={"id": body["id"], "state": "starting"})
        start = {"stateMachineArn": os.environ["WORKFLOW"], "name": body["id"], "input": json.dumps(body)}
        return _answer(200, boto3.client("stepfunctions").start_execution(**start)["executionArn"])
    if path == "/agent/hello":
        body = json.loads(event["body"])
        answer = {"taskToken": body["task_token"], "output": json.dumps({"said": body["said"]})}
        boto3.client("stepfunctions").send_task_success(**answer)
        return _answer(200, {"authorization": event["headers"].get("Authorization")})
    item = table.get_item(Key={"id": path.removeprefix("/machines/")}).get("Item")
    return _answer(200 if item else 404, item)


def task_changed(event: dict[str, Any], context: object) -> None:
    """Keep what ECS tells of each task."""
    detail = event["detail"]
    if detail["lastStatus"] != "STOPPED":
        return
    table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
    table.put_item(Item={"id": detail["startedBy"] + "-end", "detail": json.dumps(detail)})


def _answer(status: int, body: object) -> dict[str, Any]:
    return {"statusCode": status, "body": json.dumps(body)}
