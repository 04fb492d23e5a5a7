"""What is looked at before anything is started, so that it is one line and not a stack trace later."""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.errors import SetupError
from local.home import Home

LEAST_FREE_BYTES = 1 << 30


def port_is_free(port: int) -> None:
    """Refuse a port that somebody listens on."""
    with socket.socket() as probe:
        # As the server will: a connection that was just closed is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            raise SetupError(f"port {port} needs root; set SANDBAR_PORT to one above 1023") from None
        except OSError:
            raise SetupError(
                f"port {port} is in use; stop what listens there, or set SANDBAR_PORT to another"
            ) from None


def disk_has_room(folder: Path) -> None:
    """Refuse to begin where the disk is as good as full."""
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise SetupError(
            f"only {free >> 20} MiB are free at {folder}; make room for at least {LEAST_FREE_BYTES >> 20} MiB"
        )


@contextmanager
def claimed(home: Home) -> Iterator[None]:
    """Hold the data folder for this process alone, or refuse. The kernel lets go of it however the process ends."""
    with (home.data / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise SetupError(
                f"{home.data} is in use by process {holder}; stop that one, or set SANDBAR_DATA to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
