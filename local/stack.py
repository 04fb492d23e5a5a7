"""The parts of the stack on one machine: which processes, in which order, told what."""

import hashlib
import hmac
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local import cloud, podman
from local.children import Child, free_ports, listens, listens_at
from local.engines import EngineChoice
from local.home import CODE, Home

ACCOUNT = "000000000000"
REGION = "us-east-1"
# Nothing of the user's own AWS account may be reached, or reach us.
STRIPPED = ("AWS_", "SANDBAR_", "BOTO_")


@dataclass(frozen=True)
class Ports:
    """Where the parts listen on loopback, behind the one address that is meant for people."""

    cloud: int
    tables: int
    objects: int

    @property
    def cloud_url(self) -> str:
        return f"http://127.0.0.1:{self.cloud}"

    @property
    def tables_url(self) -> str:
        return f"http://127.0.0.1:{self.tables}"

    @property
    def objects_url(self) -> str:
        return f"http://127.0.0.1:{self.objects}"


def pick_ports() -> Ports:
    """Three that are free now."""
    return Ports(*free_ports(3))


def secret(home: Home) -> str:
    """The installation's own secret, made at its first start."""
    path = home.data / "secret"
    if not path.exists():
        beside = path.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_text(secrets.token_hex(32))
        beside.replace(path)
    return path.read_text().strip()


def environment(home: Home, ports: Ports) -> dict[str, str]:
    """What every part is told: the stand-ins in place of AWS, and keys that open nothing else."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(STRIPPED)}
    own = secret(home)
    return {
        **inherited,
        "PYTHONPATH": str(CODE),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": hmac.new(own.encode(), b"objects", hashlib.sha256).hexdigest(),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": ports.cloud_url,
        "AWS_ENDPOINT_URL_DYNAMODB": ports.tables_url,
        "AWS_ENDPOINT_URL_S3": ports.objects_url,
        "SANDBAR_DATA": str(home.data),
        "SANDBAR_SECRET": own,
    }


def stores(home: Home, ports: Ports, dynoxide: Path, told: Mapping[str, str]) -> list[Child]:
    """The two stores, which hold all that must not be lost."""
    tables = [str(dynoxide), "serve", "--host", "127.0.0.1", "--port", str(ports.tables), "--db-path", str(home.tables)]
    door = {**told, "SANDBAR_OBJECTS_PORT": str(ports.objects)}
    return [
        Child("dynoxide", tables, told, home.logs / "dynoxide.log", listens(ports.tables)),
        Child("door", _module("local.door"), door, home.logs / "door.log", listens_at(home.control_socket)),
    ]


def engine(home: Home, choice: EngineChoice, told: Mapping[str, str]) -> list[Child]:
    """The engine's own process, where it is ours to start."""
    if choice.kind != "podman":
        return []
    settings = {**told, **podman.configure(home, choice.image_stores)}
    log = home.logs / "podman.log"
    return [Child("podman", podman.service(home), settings, log, listens_at(podman.socket(home)))]


def control(home: Home, ports: Ports, choice: EngineChoice, told: Mapping[str, str]) -> Child:
    """The stand-in for AWS."""
    settings = {
        **told,
        **cloud.environment(home, ports.cloud),
        "SANDBAR_ENGINE": choice.kind,
        "SANDBAR_ENGINE_URL": choice.url,
    }
    return Child("cloud", _module("local.cloud"), settings, home.logs / "cloud.log", listens(ports.cloud))


def edge(home: Home, port: int, told: Mapping[str, str]) -> Child:
    """The one address."""
    settings = {**told, "SANDBAR_PORT": str(port)}
    return Child("edge", _module("edge"), settings, home.logs / "edge.log", listens(port))


def stage_url(endpoint: str, amazon_url: str) -> str:
    """Where the stand-in serves what a stack's output calls https://{id}.execute-api.{region}.amazonaws.com/{stage}."""
    id, _, rest = amazon_url.removeprefix("https://").removeprefix("wss://").partition(".")
    stage = rest.partition("/")[2].strip("/")
    scheme = "ws" if amazon_url.startswith("wss://") else "http"
    return f"{scheme}{endpoint.removeprefix('http')}/_aws/execute-api/{id}/{stage}"


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]
