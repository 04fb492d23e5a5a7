"""What the stand-in for ECS needs of whatever runs sandboxes here: Docker, Podman, or plain processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

# Written on every machine, so that one data folder never touches another's, and so that ECS can be told after a
# restart which of its tasks still runs.
OWNER_LABEL = "sandbar.home"
TASK_LABEL = "sandbar.task"

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"


@dataclass(frozen=True)
class Order:
    """A machine to start."""

    name: str
    hostname: str
    image: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    cpus: float
    memory_mib: int
    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    init: bool = True


@dataclass(frozen=True)
class Machine:
    """A machine as it was last seen."""

    id: str
    labels: Mapping[str, str]
    running: bool
    address: str | None = None
    exit_code: int | None = None
    out_of_memory: bool = False


class EngineRefused(Exception):
    """The engine would not do it; the text is the engine's own."""


class Engine(Protocol):
    """Runs machines. Everything about one data folder, and nothing else, is seen through it."""

    kind: str

    def start(self, order: Order) -> Machine:
        """Start a new machine and return once it runs; raise `EngineRefused` and leave nothing behind otherwise."""

    def get(self, id: str) -> Machine | None:
        """The machine as last seen, without asking the engine: this is called ten times a second for each."""

    def all(self) -> list[Machine]:
        """Ask the engine what is there, running or not."""

    def stop(self, id: str, seconds: float) -> None:
        """End its processes, kindly for so many seconds; the disk stays. Nothing happens if it is not running."""

    def resume(self, id: str) -> Machine:
        """Start a stopped machine again with the disk it had."""

    def remove(self, id: str) -> None:
        """End it and forget its disk. Nothing happens if it is gone."""

    def last_words(self, id: str) -> str:
        """The end of what its agent wrote; nothing where there is no more."""

    def on_exit(self, tell: Callable[[Machine], None]) -> None:
        """Call this, on a thread of the engine's, once for each machine that ends."""

    def close(self) -> None:
        """Stop watching; the machines go on."""
