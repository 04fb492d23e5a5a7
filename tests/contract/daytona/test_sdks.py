"""The official SDKs, each in its own environment, against the running stack: every scenario, sync and async."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.environments import python_with
from tests.stack import Stack

pytestmark = pytest.mark.xdist_group("stack")  # one installation for all of them

HERE = Path(__file__).parent
VERSIONS = [path.stem.removeprefix("requirements-") for path in sorted(HERE.glob("requirements-*.txt"))]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_scenario_of_the_sdk_passes(version: str, stack: Stack) -> None:
    python = python_with(HERE / f"requirements-{version}.txt")
    told = {"DAYTONA_API_URL": f"{stack.url}/daytona", "DAYTONA_API_KEY": stack.key, "PYTHONDONTWRITEBYTECODE": "1"}
    run = [python, "-m", "pytest", "-c", HERE / "scenarios" / "pytest.ini", HERE / "scenarios", "--durations=5"]

    done = subprocess.run(run, env={"PATH": os.environ["PATH"], **told}, capture_output=True, text=True, timeout=900)

    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4_000:]
