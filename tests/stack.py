"""A whole installation for the tests that need one: `make run` on a free port and a data folder of its own.

`SANDBAR_TEST_URL` and `SANDBAR_TEST_KEY` name one that runs already, which is then used and left as it is.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
READY = "Sandbar is ready"
BOOT_SECONDS = 300
END_SECONDS = 60
KEY = "sb_the_tests_own_key"


@dataclass(frozen=True)
class Answer:
    """A reply to a test's request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Stack:
    """A running installation: its one address and its administrator's key."""

    url: str
    key: str

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = "",
    ) -> Answer:
        """One request as it is written: nothing is followed, retried or corrected. A key of None sends none."""
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        known = {} if key is None else {"Authorization": f"Bearer {key or self.key}"}
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, target, raw, {"Content-Type": "application/json", **known, **(headers or {})})
            reply = connection.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()


@contextmanager
def running_stack() -> Iterator[Stack]:
    """The installation that the environment names, or one that lives as long as this."""
    if url := os.environ.get("SANDBAR_TEST_URL"):
        yield Stack(url.rstrip("/"), os.environ["SANDBAR_TEST_KEY"])
        return
    with tempfile.TemporaryDirectory(prefix="sandbar-test-") as folder:
        stack = Stack(f"http://127.0.0.1:{_free_port()}", KEY)
        log = Path(folder) / "run.log"
        process = _started(stack, Path(folder) / "data", log)
        try:
            _await(process, log)
            yield stack
        finally:
            _end(process)


def _started(stack: Stack, data: Path, log: Path) -> "subprocess.Popen[bytes]":
    told = {"SANDBAR_PORT": str(urlsplit(stack.url).port), "SANDBAR_DATA": str(data), "SANDBAR_API_KEY": stack.key}
    with log.open("wb") as file:
        # A group of its own: a Ctrl-C at the tests' terminal is the tests' to pass on.
        return subprocess.Popen(
            [sys.executable, "-m", "local"],
            cwd=ROOT,
            env={**os.environ, **told},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await(process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + BOOT_SECONDS
    while READY not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the stack did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.1)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RuntimeError(f"the stack did not end within {END_SECONDS} s of being told to") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
