"""Says on the terminal what is being done, and how long it took."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_SECONDS = 0.7
_lock = threading.Lock()


def say(text: str) -> None:
    """One line, at once."""
    with _lock:
        print(text, flush=True)


def complain(text: str) -> None:
    """One line for what went wrong and what to do about it."""
    with _lock:
        print(f"sandbar: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what was done and how long it took; where it takes long, also that it has begun."""
    began = time.monotonic()
    patience = threading.Timer(PATIENCE_SECONDS, say, [f"  {text} ..."])
    patience.daemon = True
    patience.start()
    try:
        yield
    finally:
        patience.cancel()
    say(f"  {text}: {time.monotonic() - began:.1f} s")
