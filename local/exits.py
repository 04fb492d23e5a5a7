"""Tells at once when a process that is not our child ends, without asking anybody every tenth of a second."""

import os
import selectors
import threading
from collections.abc import Callable


class Exits:
    """Watches processes by pidfd in one thread. The kernel holds the descriptor to one process, however pids repeat."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake_in, self._wake_out = os.pipe()
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._open = True
        self._thread = threading.Thread(target=self._loop, name="exits", daemon=True)
        self._thread.start()

    def watch(self, pid: int, ended: Callable[[], None]) -> bool:
        """Call `ended` once that process is gone; False, and no call, if it already is."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        with self._lock:
            self._selector.register(descriptor, selectors.EVENT_READ, ended)
        os.write(self._wake_out, b".")
        return True

    def close(self) -> None:
        self._open = False
        os.write(self._wake_out, b".")
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        while self._open:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.read(self._wake_in, 4096)
                    continue
                with self._lock:
                    self._selector.unregister(key.fd)
                os.close(key.fd)
                # Its own thread: whoever is told may ask the engine things, and the next exit must not wait for that.
                threading.Thread(target=key.data, name="exit", daemon=True).start()
