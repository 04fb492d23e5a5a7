"""What a request for a sandbox may ask: sizes that Fargate has, names, labels, environments."""

import re
from collections.abc import Mapping
from dataclasses import replace

from chalicelib.core.errors import Invalid
from chalicelib.core.sandbox import Size

MIB = 1024

FARGATE: dict[float, tuple[int, ...]] = {
    0.25: (512, 1 * MIB, 2 * MIB),
    0.5: tuple(n * MIB for n in range(1, 5)),
    1: tuple(n * MIB for n in range(2, 9)),
    2: tuple(n * MIB for n in range(4, 17)),
    4: tuple(n * MIB for n in range(8, 31)),
    8: tuple(n * MIB for n in range(16, 61, 4)),
    16: tuple(n * MIB for n in range(32, 121, 8)),
}
"""The virtual CPUs that Fargate offers and the memory in MiB that each may have (ECS Developer Guide, Fargate task size)."""

DISK_GIB = range(1, 201)  # Fargate's ephemeral storage ends at 200 GiB

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")

MOST_LABELS, LONGEST_LABEL = 64, 256
LONGEST_ENVIRONMENT = 32 * 1024


def fitting(wanted: Size) -> Size:
    """The smallest size that Fargate has and that gives at least what is wanted; `Invalid` where there is none."""
    if wanted.disk_gib not in DISK_GIB:
        raise Invalid(f"disk must be 1 to {DISK_GIB[-1]} GiB, not {wanted.disk_gib}")
    if not wanted.cpu > 0 or not wanted.memory_mib > 0:
        raise Invalid(f"cpu and memory must be above 0, not {wanted.cpu:g} and {wanted.memory_mib} MiB")
    for cpu, memories in FARGATE.items():
        for memory in memories:
            if cpu >= wanted.cpu and memory >= wanted.memory_mib:
                return replace(wanted, cpu=cpu, memory_mib=memory)
    raise Invalid(
        f"no machine has {wanted.cpu:g} cpu and {wanted.memory_mib} MiB of memory: at most 16 cpu and {120 * MIB} MiB"
    )


def check_name(name: str) -> str:
    """The name, if it is one that a sandbox may have."""
    if not NAME.fullmatch(name):
        raise Invalid(
            f"name must be 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit: {name[:80]!r}"
        )
    return name


def check_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """The labels, if there are not too many and none is too long."""
    if len(labels) > MOST_LABELS:
        raise Invalid(f"at most {MOST_LABELS} labels, not {len(labels)}")
    for key, value in labels.items():
        if not 0 < len(key) <= LONGEST_LABEL or len(value) > LONGEST_LABEL:
            raise Invalid(f"a label's key and value have at most {LONGEST_LABEL} characters: {key[:40]!r}")
    return labels


def check_env(env: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, if every name is a variable's, none is ours, and all of it is of a sane length."""
    for name, value in env.items():
        if not VARIABLE.fullmatch(name) or name.startswith("SANDBAR_"):
            raise Invalid(f"not a name for an environment variable: {name[:80]!r}")
        if "\0" in value:
            raise Invalid(f"the environment variable {name} holds a NUL character")
    if sum(len(n) + len(v.encode()) for n, v in env.items()) > LONGEST_ENVIRONMENT:
        raise Invalid(f"the environment is longer than {LONGEST_ENVIRONMENT} bytes in all")
    return env
