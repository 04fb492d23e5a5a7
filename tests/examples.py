"""Sandboxes, keys and callers to test with."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from chalicelib.core.access import PERMISSIONS, Caller, Key
from chalicelib.core.ids import new_id
from chalicelib.core.sandbox import Checkpoint, Machine, Mount, Network, Policy, Sandbox, Size, Upload
from chalicelib.core.states import State
from chalicelib.core.tickets import Ticket
from tests.fakes import BEGINNING

OWNER, STRANGER = "org-1", "org-2"
CALLER = Caller(owner=OWNER, user="ada", permissions=PERMISSIONS)


def sandbox(**changes: Any) -> Sandbox:
    """A started sandbox of an id of its own, named by that unless told otherwise."""
    id = new_id(changes.get("created_at", BEGINNING))
    plain = Sandbox(
        id=id,
        owner=OWNER,
        name=id,
        image="default",
        state=State.STARTED,
        created_at=BEGINNING,
        changed_at=BEGINNING,
        active_at=BEGINNING,
    )
    return replace(plain, **changes)


def full_sandbox() -> Sandbox:
    """One that has something in every field."""
    return sandbox(
        size=Size(cpu=0.25, memory_mib=512, disk_gib=10),
        env={"GREETING": "grüß\n", "EMPTY": ""},
        labels={"team": "blue", "a.b": "dotted", "with space": "", "ünï": "ö"},
        user="daytona",
        policy=Policy(timedelta(minutes=5), timedelta(hours=1), timedelta(0), BEGINNING + timedelta(days=30)),
        network=Network(block_all=True, allow=("10.0.0.0/8",)),
        volumes=(Mount("data", "/data"), Mount("more", "/more")),
        public=True,
        created_by="ada",
        ticket=Ticket("key", "asked", BEGINNING),
        movement="m-1",
        waiter="token",
        incarnation="m-0",
        booted=True,
        machine=Machine("arn:task", "10.0.0.1:2280"),
        checkpoint=Checkpoint("checkpoints/x", 2**40, "0" * 64, BEGINNING),
        upload=Upload("checkpoints/y", "upload-1", arrived=True),
        reason="because",
        extras={"daytona": {"target": "eu", "n": [1, 2.5, None, True]}},
    )


def key(**changes: Any) -> Key:
    """A key of its own hash."""
    name = changes.get("name", "first")
    plain = Key(
        hash=f"hash of {name}",
        owner=OWNER,
        user="ada",
        name=name,
        hint="abcd",
        permissions=frozenset({"write:sandboxes", "read:audit"}),
        created_at=BEGINNING,
    )
    return replace(plain, **changes)
