"""Where the deployed API is, kept in a file of the runtime folder: there while the control plane answers, and only then."""

import contextlib
import time

from local.home import Home

LOOK_SECONDS = 0.05


def publish(home: Home, url: str) -> None:
    """Say that the control plane answers there."""
    beside = home.run / "stage.new"
    beside.write_text(url)
    beside.replace(home.run / "stage")


def withdraw(home: Home) -> None:
    """Say that there is no control plane for now."""
    (home.run / "stage").unlink(missing_ok=True)


def url(home: Home) -> str:
    """Where it is; nothing while there is none."""
    with contextlib.suppress(FileNotFoundError):
        return (home.run / "stage").read_text()
    return ""


def await_published(home: Home) -> None:
    """Return once the control plane answers, however long that takes."""
    while not url(home):
        time.sleep(LOOK_SECONDS)
