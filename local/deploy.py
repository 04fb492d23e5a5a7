"""Deploys the packaged template to the stand-in, in the very calls that would deploy it to AWS.

`python -m local.deploy NAME=VALUE ...`: creates the stack with these parameters and prints its outputs as JSON. A process
of its own, since what it imports is not needed afterwards.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.home import CODE

# The stand-in's own store holds what CloudFormation reads while it deploys, and nothing else.
STACK = "sandbar-dev"
PACKAGES = "sandbar-packages"
PATIENCE = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=120)
POLL_SECONDS = 0.1
# What EventBridge sends each minute.
TICK = {
    **dict.fromkeys(("version", "id", "account", "region", "time"), "0"),
    "source": "aws.events",
    "detail-type": "Scheduled Event",
    "detail": {},
    "resources": [],
}


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


def sweep(endpoint: str, stack: str) -> None:
    """Have it look at once at what is due: much may have fallen due while nothing ran, and pools are to be filled before
    anybody asks."""
    functions = boto3.client("lambda", endpoint_url=endpoint, config=PATIENCE)
    functions.invoke(FunctionName=f"{stack}-sweep", InvocationType="Event", Payload=json.dumps(TICK).encode())


def packaged(build: Path) -> Package:
    """What lies in the build folder."""
    keys = json.loads((build / "manifest.json").read_text())["keys"]
    return Package(build / "template.yaml", {key: build / name for name, key in keys.items()})


def main(parameters: list[str]) -> int:
    """Deploy what lies in the build folder; 1, and why, where it fails."""
    named = {"CodeBucket": PACKAGES, **dict(parameter.split("=", 1) for parameter in parameters)}
    try:
        outputs = deploy(os.environ["AWS_ENDPOINT_URL"], STACK, packaged(CODE / "build"), named)
        sweep(os.environ["AWS_ENDPOINT_URL"], STACK)
    except DeployFailed as problem:
        print(problem, file=sys.stderr)
        return 1
    print(json.dumps(outputs))
    return 0


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
