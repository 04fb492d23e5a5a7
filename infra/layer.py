"""The Lambda functions' libraries: requirements.txt, with what we never import cut away (docs/decisions/0001)."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.zips import pack

SERVICES = frozenset({"apigatewaymanagementapi", "dynamodb", "ecs", "s3", "secretsmanager", "stepfunctions"})
"""The services that we speak to: botocore brings the descriptions of more than four hundred."""

NEVER_IMPORTED = (
    "**/__pycache__",
    "bin",
    "pynamodb/**/*.pyi",
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/[!_j]*",
    "aws_lambda_powertools/utilities/jmespath_utils/__pycache__",
)


def make(requirements: Path, target: Path, *, cache: Path) -> None:
    """The layer of these requirements, from the cache where it was made before; else pip fetches them."""
    cache.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(requirements.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    kept = cache / f"layer-{recipe[:32]}.zip"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            libraries = Path(folder) / "python"
            _fetch(requirements, libraries)
            _cut(libraries)
            pack(Path(folder), kept)
    shutil.copyfile(kept, target.with_suffix(".part"))
    os.replace(target.with_suffix(".part"), target)


def _fetch(requirements: Path, libraries: Path) -> None:
    """All pure Python, so that one layer serves every architecture and version; pip is told to refuse anything else."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
    ]
    pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none"]
    subprocess.run([*pip, *pure, "--target", str(libraries), "-r", str(requirements)], check=True)


def _cut(libraries: Path) -> None:
    for pattern in NEVER_IMPORTED:
        for path in sorted(libraries.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for service in (path for path in (libraries / "botocore" / "data").iterdir() if path.is_dir()):
        if service.name not in SERVICES:
            shutil.rmtree(service)
