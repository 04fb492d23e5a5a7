"""Who this machine is, kept with its disk: for an agent that is started again after its boot token was used."""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

PLACE = "opt/sandbar/var/identity"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """One incarnation of one sandbox, and since when this disk is its own."""

    sandbox: str
    agent_token: str
    born_ns: int


def load(root: str) -> Identity | None:
    """The identity kept on this disk; none where there is none, or none that can be read."""
    try:
        kept = json.loads(Path(root, PLACE).read_bytes())
        return Identity(str(kept["sandbox"]), str(kept["agent_token"]), int(kept["born_ns"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        log.exception("the identity cannot be read")
        return None


def keep(root: str, identity: Identity) -> None:
    """Write it for root alone, whole or not at all. A disk that takes no file is no reason not to serve."""
    path = Path(root, PLACE)
    beside = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "w") as file:
            json.dump(asdict(identity), file)
        beside.replace(path)
    except OSError:
        log.exception("the identity cannot be kept")
