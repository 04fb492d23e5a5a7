"""Programs that set things up: they end when we do, what they say is in one log, and their failures are sentences."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from local.errors import SetupError

CHUNK = 1 << 20
# The last lines of a program that failed, and what they mean to whoever reads them.
MEANINGS = {
    "No space left on device|ENOSPC|Disk quota exceeded": "found no room left on the disk; make some, then run it again",
    "Could not resolve|name resolution|ENOTFOUND|EAI_AGAIN|Could not connect|Network is unreachable|NewConnectionError"
    "|Connection (refused|timed out|reset)|ECONNREFUSED|ETIMEDOUT|ECONNRESET|Failed to fetch": "failed: a package source "
    "cannot be reached over the network; check the connection and the proxy settings, then run it again",
    "CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT|certificate verif": "met a certificate that is not trusted here; "
    "add the proxy's certificate to this machine's trusted ones, then run it again",
    "cannot traverse|uid_map|/etc/subuid": "may not make the files of other users here; run it as root, "
    "or give this user a range in /etc/subuid and /etc/subgid",
}
TAIL_BYTES = 8192


@dataclass(frozen=True)
class Commands:
    """Runs programs. All raise `SetupError` where one is missing or fails."""

    log: Path

    def __call__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        with self._logged(command) as log:
            program = _leashed(command)
            subprocess.run(
                program, env=_over(environment), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ).check_returncode()

    @contextmanager
    def reading(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """What the program writes, in chunks. Leaving the block waits for its end, and raises if it had failed."""
        with self._logged(command) as log:
            program = subprocess.Popen(
                _leashed(command), env=_over(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
            with program, _ended(program):
                stream = cast(IO[bytes], program.stdout)
                yield iter(partial(stream.read, CHUNK), b"")
            if program.returncode:
                raise subprocess.CalledProcessError(program.returncode, command)

    @contextmanager
    def _logged(self, command: Sequence[str]) -> Iterator[IO[bytes]]:
        """The log to write to; a program's failure within becomes a sentence about what it wrote there."""
        with self.log.open("ab") as log:
            before = log.tell()
            try:
                yield log
            except subprocess.CalledProcessError:
                said = self.log.read_bytes()[before:][-TAIL_BYTES:].decode(errors="replace")
                raise SetupError(f"{_name(command)} {_meaning(said)} (all it said is in {self.log})") from None


def answer(command: Sequence[str]) -> list[str]:
    """The lines that a program answers with; none where there is no such program, or it has no answer."""
    if not shutil.which(command[0]):
        return []
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.splitlines()


@contextmanager
def _ended(program: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever goes wrong within ends the program too."""
    try:
        yield
    except BaseException:
        # What root starts is behind unshare, which heeds no SIGTERM, and takes everything along when it is killed.
        program.send_signal(signal.SIGKILL if os.geteuid() == 0 else signal.SIGTERM)
        raise


def _name(command: Sequence[str]) -> str:
    return " ".join(Path(word).name for word in command[:2] if not word.startswith("-"))


def _meaning(said: str) -> str:
    known = (meaning for pattern, meaning in MEANINGS.items() if re.search(pattern, said, re.IGNORECASE))
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    return next(known, f"failed: {last.strip()}")


def _over(environment: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(environment or {})}


def _leashed(command: Sequence[str]) -> list[str]:
    """The command, to be ended with all of its children when we end, even by SIGKILL."""
    if not shutil.which(command[0]):
        raise SetupError(f"{command[0]} is missing; install it, on Debian with: apt-get install {command[0]}")
    if os.geteuid() == 0:
        # A namespace of processes ends with its first one, so no grandchild is forgotten, nor what it had mounted.
        return [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--mount",
            "--fork",
            "--kill-child=KILL",
            *command,
        ]
    return ["setpriv", "--pdeathsig", "TERM", *command]
