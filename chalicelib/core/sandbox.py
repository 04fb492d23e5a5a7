"""What a sandbox is: the values that the core works on and the adapters keep."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chalicelib.core.amounts import NOTHING, Amounts
from chalicelib.core.states import MOVING, State
from chalicelib.core.tickets import Ticket


@dataclass(frozen=True, slots=True)
class Size:
    """What a machine is given: virtual CPUs, memory in MiB, disk in GiB."""

    cpu: float = 1
    memory_mib: int = 1024
    disk_gib: int = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """When a sandbox is moved without being asked. None is never."""

    stop_after_idle: timedelta | None = timedelta(minutes=15)
    archive_after_stopped: timedelta | None = timedelta(days=7)
    delete_after_stopped: timedelta | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """Where a sandbox may connect to: anywhere, nowhere, or only the CIDRs and domains that are allowed."""

    block_all: bool = False
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume at a path of the sandbox."""

    volume: str
    path: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved disk: where the compressed stream lies, its size in bytes and the SHA-256 of those bytes."""

    key: str
    size: int
    sha256: str
    saved_at: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """A checkpoint on its way up: where it will lie and its upload's id there."""

    key: str
    id: str
    arrived: bool = False  # all of it; the machine may go


@dataclass(frozen=True, slots=True)
class Machine:
    """A running task and the private address, host:port, that its agent listens on."""

    task: str
    address: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox. Changed with `dataclasses.replace`, written with its version as the guard."""

    id: str
    owner: str  # the organization that it belongs to
    name: str
    image: str
    state: State
    created_at: datetime
    changed_at: datetime  # when it came into its state
    active_at: datetime  # the last call that counts as activity
    size: Size = Size()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    policy: Policy = Policy()
    network: Network = Network()
    volumes: tuple[Mount, ...] = ()
    public: bool = False
    created_by: str = ""
    ticket: Ticket | None = None  # the request that it was created for, where that may be repeated
    movement: str = ""  # the workflow execution that moves it, or moved it last
    waiter: str = ""  # the token of the task in that execution that waits for the machine
    incarnation: str = ""  # the start movement whose machine is, or is to be, this sandbox
    booted: bool = False  # this incarnation has used its boot token
    machine: Machine | None = None
    checkpoint: Checkpoint | None = None
    upload: Upload | None = None  # the checkpoint that the present stop saves
    reason: str | None = None  # why it failed, for a person
    extras: Mapping[str, Any] = field(default_factory=dict)  # by dialect: what it must give back and the core ignores
    charged: Amounts = NOTHING  # what it counts for in its organization; the store sees to it
    version: int = 0  # 0 until it is written; the store counts on
    was: "Sandbox | None" = field(default=None, compare=False, repr=False)  # as the store gave it; not kept

    @property
    def moving(self) -> bool:
        """A workflow is at work on it."""
        return self.state in MOVING

    @property
    def recoverable(self) -> bool:
        """It failed, and there is a machine or a checkpoint to bring it back from."""
        return self.state is State.FAILED and (self.machine is not None or self.checkpoint is not None)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which sandboxes a list shows: all conditions together; an empty one does not restrict."""

    labels: Mapping[str, str] = field(default_factory=dict)
    states: frozenset[State] = frozenset()
    name_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some sandboxes, newest first, and the cursor of the next page; None where there is none."""

    items: tuple[Sandbox, ...]
    cursor: str | None = None
