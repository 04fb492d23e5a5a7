"""The bridge that sandboxes share: an address range that nobody on this machine uses, and neighbours kept apart."""

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator
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


def ensure(api: APIClient, name: str, tag: str) -> ipaddress.IPv4Network:
    """The network of that name, made if it is missing; `tag` says where in the pool to look first."""
    try:
        found = api.inspect_network(name)
        return ipaddress.IPv4Network(found["IPAM"]["Config"][0]["Subnet"])
    except NotFound:
        subnet = free(tag, used())
        pool = IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
        api.create_network(name, driver="bridge", ipam=IPAMConfig(pool_configs=[pool]))
        return subnet


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
    for _, network in _routes():
        if network.prefixlen:
            yield network


def keep_apart(subnet: ipaddress.IPv4Network) -> None:
    """Let no container on that bridge reach another: the kernel passes no frame between two isolated ports.

    Called after each start. Where we may not (an engine without our rights), neighbours see each other's open ports;
    the agent's still wants its token.
    """
    bridges = [interface for interface, network in _routes() if network == subnet]
    for port in (port for bridge in bridges for port in INTERFACES.glob(f"{bridge}/brif/*/isolated")):
        with contextlib.suppress(OSError):
            port.write_text("1")


def _routes() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    for line in ROUTES.read_text().splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask, *_ = line.split()
        address = int.from_bytes(bytes.fromhex(destination), "little")
        netmask = int.from_bytes(bytes.fromhex(mask), "little")
        yield interface, ipaddress.IPv4Network((address, bin(netmask).count("1")))
