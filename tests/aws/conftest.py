"""The keepers of the core's promises: memory, AWS as moto has it, and dynoxide and nanio, which one machine runs on."""

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
from chalice.package import YAMLTemplateSerializer
from moto import mock_aws

from chalicelib.aws.audit import DynamoAudit
from chalicelib.aws.clients import Clients
from chalicelib.aws.keys import DynamoKeys
from chalicelib.aws.organizations import DynamoOrganizations
from chalicelib.aws.sandboxes import DynamoSandboxes
from chalicelib.aws.tables import Tables, open_tables
from chalicelib.core.world import Audit, Keys, Organizations, Sandboxes
from local import install
from tests import fakes

ROOT = Path(__file__).parents[2]
AS_ANYBODY = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
TABLES = ("Sandboxes", "Names", "Keys", "Tombstones", "Organizations", "Events")
CREATED_WITH = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")

_prefixes = (f"test-{number}-" for number in itertools.count(1))


@pytest.fixture(scope="session")
def template() -> dict[str, Any]:
    """Our half of the template, whose tables are the ones that are tested."""
    read: dict[str, Any] = YAMLTemplateSerializer().load_template((ROOT / "infra" / "template.yaml").read_text())
    return read


@pytest.fixture(scope="session")
def dynoxide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dynoxide of our own, durable as on one machine."""
    port, database = _free_port(), tmp_path_factory.mktemp("dynoxide") / "tables.db"
    command = [str(install.dynoxide()), "serve", "--host", "127.0.0.1", "--port", str(port), "--db-path", str(database)]
    with _serving(command, port) as url:
        yield url


@pytest.fixture(scope="session")
def nanio_clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """Clients of nanio, which is S3 on one machine."""
    port, folder = _free_port(), tmp_path_factory.mktemp("nanio")
    command = [
        sys.executable,
        "-m",
        "nanio",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--data-dir",
        str(folder),
    ]
    with _serving(command, port, {"NANIO_ACCESS_KEY": "test", "NANIO_SECRET_KEY": "test"}) as url:
        clients = Clients(**AS_ANYBODY, endpoint_url=url)
        yield clients
        clients["s3"].close()


@pytest.fixture(scope="session")
def aws_clients() -> Clients:
    """Clients that moto answers while it is on. Making them takes long, so they are made once."""
    return Clients(**AS_ANYBODY)


@pytest.fixture
def moto_clients(aws_clients: Clients) -> Iterator[Clients]:
    """Clients of an AWS that is empty and ours."""
    with mock_aws():
        yield aws_clients


@pytest.fixture(scope="session")
def dynoxide_clients(dynoxide: str) -> Iterator[Clients]:
    """Clients of dynoxide."""
    clients = Clients(**AS_ANYBODY, endpoint_url=dynoxide)
    yield clients
    clients["dynamodb"].close()


@pytest.fixture(params=["moto", "dynoxide"])
def clients(request: pytest.FixtureRequest) -> Clients:
    """Clients of each that speaks DynamoDB."""
    return cast(Clients, request.getfixturevalue(f"{request.param}_clients"))


@pytest.fixture
def tables(clients: Clients, template: dict[str, Any]) -> Tables:
    """The template's tables, empty, in each of them."""
    return created(clients, template)


@pytest.fixture(params=["memory", "moto", "dynoxide"])
def tables_or_none(request: pytest.FixtureRequest, template: dict[str, Any]) -> Tables | None:
    """The same, and None for memory."""
    if request.param == "memory":
        return None
    return created(request.getfixturevalue(f"{request.param}_clients"), template)


@dataclass(frozen=True)
class Kept:
    """One keeper of everything that lies in tables, and its clock."""

    sandboxes: Sandboxes
    keys: Keys
    organizations: Organizations
    audit: Audit
    clock: fakes.Clock


@pytest.fixture
def kept(tables_or_none: Tables | None) -> Kept:
    """Every keeper."""
    return keeper(tables_or_none)


@pytest.fixture(params=["memory", "dynoxide"])
def raced(request: pytest.FixtureRequest, template: dict[str, Any]) -> Kept:
    """Those that may be raced for: moto's transactions are not atomic among threads."""
    if request.param == "memory":
        return keeper(None)
    return keeper(created(request.getfixturevalue("dynoxide_clients"), template))


@pytest.fixture
def sandboxes(kept: Kept) -> Sandboxes:
    """Every keeper of `Sandboxes`."""
    return kept.sandboxes


@pytest.fixture
def keys(kept: Kept) -> Keys:
    """Every keeper of `Keys`."""
    return kept.keys


def keeper(tables: Tables | None) -> Kept:
    """What keeps everything in these tables, or in memory."""
    clock = fakes.Clock()
    if tables is None:
        log = fakes.Audit(clock)
        memory = fakes.Organizations(clock, log)
        return Kept(fakes.Sandboxes(clock, memory, log), fakes.Keys(log), memory, log, clock)
    audit = DynamoAudit(tables, clock)
    organizations = DynamoOrganizations(tables, audit)
    return Kept(DynamoSandboxes(tables, organizations, audit), DynamoKeys(tables, audit), organizations, audit, clock)


def create_tables(clients: Clients, template: dict[str, Any], prefix: str) -> None:
    """Make the template's tables, under names that begin so."""
    for name in TABLES:
        properties = template["Resources"][name]["Properties"]
        wanted = {key: properties[key] for key in CREATED_WITH if key in properties}
        clients["dynamodb"].create_table(TableName=prefix + name.lower(), **wanted)


def created(clients: Clients, template: dict[str, Any]) -> Tables:
    """The template's tables, empty, under names of their own."""
    prefix = next(_prefixes)
    create_tables(clients, template, prefix)
    return open_tables(prefix, clients)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _serving(command: Sequence[str], port: int, told: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """A server while it runs; its URL."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **told}
    ) as server:
        try:
            for _ in range(500):
                with socket.socket() as attempt:
                    if attempt.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
