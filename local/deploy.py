"""Deploys the packaged template to the stand-in, in the very calls that would deploy it to AWS."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

# The stand-in's own store holds what CloudFormation reads while it deploys, and nothing else.
PACKAGES = "sandbar-packages"
PATIENCE = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=120)
POLL_SECONDS = 0.1


class DeployFailed(Exception):
    """The stack was not created; the text has each resource's reason."""


@dataclass(frozen=True)
class Package:
    """What `make package` made."""

    template: Path
    archives: Mapping[str, Path]


def deploy(endpoint: str, stack: str, package: Package, parameters: Mapping[str, str]) -> dict[str, str]:
    """Upload the package, create the stack, and return its outputs."""
    session = boto3.Session()
    s3 = session.client("s3", endpoint_url=endpoint, config=PATIENCE)
    s3.create_bucket(Bucket=PACKAGES)
    for key, path in {**package.archives, "template": package.template}.items():
        s3.put_object(Bucket=PACKAGES, Key=key, Body=path.read_bytes())
    cloudformation = session.client("cloudformation", endpoint_url=endpoint, config=PATIENCE)
    cloudformation.create_stack(
        StackName=stack,
        TemplateURL=f"{endpoint}/{PACKAGES}/template",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    return _outputs(cloudformation, stack)


def stage_url(endpoint: str, amazon_url: str) -> str:
    """Where the stand-in serves what the stack's output calls https://{id}.execute-api.{region}.amazonaws.com/{stage}."""
    id, _, rest = amazon_url.removeprefix("https://").removeprefix("wss://").partition(".")
    stage = rest.partition("/")[2].strip("/")
    scheme = "ws" if amazon_url.startswith("wss://") else "http"
    return f"{scheme}{endpoint.removeprefix('http')}/_aws/execute-api/{id}/{stage}"


def _outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    while True:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        if found["StackStatus"] == "CREATE_COMPLETE":
            return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}
        if found["StackStatus"] != "CREATE_IN_PROGRESS":
            raise DeployFailed(_reasons(cloudformation, stack, found))
        time.sleep(POLL_SECONDS)


def _reasons(cloudformation: Any, stack: str, found: Mapping[str, Any]) -> str:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
    ]
    return "; ".join(failed) or found.get("StackStatusReason", found["StackStatus"])
