"""Programs that set things up: their failures are sentences, and they end with us."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.commands import Commands, answer
from local.errors import SetupError

ROOT = Path(__file__).parents[2]
# Writes to the pipe that keeps it open, then waits for longer than any test.
WAITER = """
import sys
from pathlib import Path
from local.commands import Commands
Commands(Path(sys.argv[1]))(["sh", "-c", f"exec 3>{sys.argv[2]}; echo up >&3; exec sleep 600"])
"""


def test_a_missing_program_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^nosuchprogram is missing; install it"):
        Commands(tmp_path / "log")(["nosuchprogram"])


def test_a_failure_says_the_last_line_and_where_the_rest_is(tmp_path: Path) -> None:
    log = tmp_path / "log"

    with pytest.raises(SetupError) as refusal:
        Commands(log)(["sh", "-c", "echo first; echo it broke >&2; exit 3"])

    assert str(refusal.value) == f"sh failed: it broke (all it said is in {log})"
    assert log.read_text() == "first\nit broke\n"


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("dpkg: write error: No space left on device", "found no room left on the disk"),
        ("npm error code ENOSPC", "found no room left on the disk"),
        ("E: Could not resolve 'deb.debian.org'", "cannot be reached over the network"),
        ("Temporary failure in name resolution", "cannot be reached over the network"),
        ("npm error code ENOTFOUND", "cannot be reached over the network"),
        ("ssl.SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED", "a certificate that is not trusted here"),
    ],
)
def test_common_failures_are_told_in_plain_words(tmp_path: Path, said: str, meaning: str) -> None:
    with pytest.raises(SetupError, match=meaning):
        Commands(tmp_path / "log")(["sh", "-c", 'echo "$1" >&2; exit 1', "sh", said])


def test_an_earlier_program_is_not_blamed_for_a_later_failure(tmp_path: Path) -> None:
    run = Commands(tmp_path / "log")
    run(["sh", "-c", "echo 'warning: Connection refused, trying another'"])

    with pytest.raises(SetupError, match=r"^sh failed: wrong"):
        run(["sh", "-c", "echo wrong; exit 1"])


def test_what_a_program_writes_can_be_read_while_it_runs(tmp_path: Path) -> None:
    with Commands(tmp_path / "log").reading(["sh", "-c", "printf one; echo aside >&2; printf two"]) as chunks:
        assert b"".join(chunks) == b"onetwo"

    assert (tmp_path / "log").read_text() == "aside\n"


def test_a_program_that_fails_after_writing_has_failed(tmp_path: Path) -> None:
    with (
        pytest.raises(SetupError, match=r"^sh failed: late"),
        Commands(tmp_path / "log").reading(["sh", "-c", "printf one; echo late >&2; exit 1"]) as chunks,
    ):
        list(chunks)


def test_a_reader_that_fails_ends_the_program(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Commands(tmp_path / "log").reading(["sleep", "600"]):
        raise ZeroDivisionError


def test_nothing_goes_on_when_we_are_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    parent = subprocess.Popen([sys.executable, "-c", WAITER, str(tmp_path / "log"), str(pipe)], cwd=ROOT)
    with pipe.open("rb", buffering=0) as end:
        assert end.read(3) == b"up\n"

        parent.send_signal(signal.SIGKILL)
        parent.wait()

        assert end.read() == b""  # as soon as nobody holds the other end


def test_a_program_that_is_not_there_answers_nothing() -> None:
    assert answer(["nosuchprogram"]) == []
    assert answer(["printf", "a\\nb\\n"]) == ["a", "b"]
