"""The bridge that sandboxes share: an address range that nobody on this machine uses, and neighbours kept apart."""

import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from docker import APIClient
from docker.errors import NotFound
from docker.types import IPAMConfig, IPAMPool

ROUTES = Path("/proc/net/route")
INTERFACES = Path("/sys/class/net")
# A corner of 10.0.0.0/8 that neither Docker, Podman nor the usual home and cloud networks hand out: 256 ranges of
# 1,022 sandboxes each.
POOL = ipaddress.IPv4Network("10.212.0.0/14")
PREFIX = 22
PODMAN_CREATE = "/v4.0.0/libpod/networks/create"


def ensure(api: APIClient, kind: str, tag: str) -> ipaddress.IPv4Network:
    """The range of the network `name(tag)`, which is made if it is missing; the tag says where in the pool to look first."""
    try:
        found = api.inspect_network(name(tag))
        return ipaddress.IPv4Network(found["IPAM"]["Config"][0]["Subnet"])
    except NotFound:
        subnet = free(tag, used())
        MAKERS[kind](api, tag, subnet)
        return subnet


def name(tag: str) -> str:
    """What the engine calls it."""
    return f"sandbar-{tag}"


def interface(tag: str) -> str:
    """What the kernel calls it: at most fifteen letters, and another for each data folder, each of which numbers anew."""
    return f"sb-{tag}"


def free(tag: str, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """The first range of the pool, beginning at a place of the tag's own, that overlaps nothing taken."""
    ranges = list(POOL.subnets(new_prefix=PREFIX))
    first = int(tag, 16) % len(ranges)
    held = list(taken)
    for candidate in ranges[first:] + ranges[:first]:
        if not any(candidate.overlaps(network) for network in held):
            return candidate
    raise RuntimeError(f"no free address range in {POOL} for the sandboxes' network; remove unused container networks")


def used() -> Iterator[ipaddress.IPv4Network]:
    """Every range that this machine routes somewhere, the default route left out."""
    for line in ROUTES.read_text().splitlines()[1:]:
        _, destination, _, _, _, _, _, mask, *_ = line.split()
        address = int.from_bytes(bytes.fromhex(destination), "little")
        prefix = int.from_bytes(bytes.fromhex(mask), "little").bit_count()
        if prefix:
            yield ipaddress.IPv4Network((address, prefix))


def keep_apart(tag: str) -> None:
    """Let no container on that bridge reach another: the kernel passes no frame between two isolated ports.

    Called after each start. Where we may not (an engine without our rights), neighbours see each other's open ports;
    the agent's still wants its token.
    """
    for port in INTERFACES.glob(f"{interface(tag)}/brif/*/isolated"):
        with contextlib.suppress(OSError):
            port.write_text("1")


def _make_in_docker(api: APIClient, tag: str, subnet: ipaddress.IPv4Network) -> None:
    pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
    options = {"com.docker.network.bridge.name": interface(tag)}
    api.create_network(name(tag), driver="bridge", options=options, ipam=IPAMConfig(pool_configs=[pool]))


def _make_in_podman(api: APIClient, tag: str, subnet: ipaddress.IPv4Network) -> None:
    """By Podman's own call: what it shares with Docker does not take the interface's name."""
    wanted = {
        "name": name(tag),
        "driver": "bridge",
        "network_interface": interface(tag),
        "subnets": [{"subnet": str(subnet), "gateway": str(subnet[1])}],
    }
    api.post(f"{api.base_url}{PODMAN_CREATE}", json=wanted).raise_for_status()


MAKERS: Mapping[str, Callable[[APIClient, str, ipaddress.IPv4Network], None]] = {
    "docker": _make_in_docker,
    "podman": _make_in_podman,
}
