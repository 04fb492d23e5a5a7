"""`python -m local.admit`: sees that the administrator's key in SANDBAR_API_KEY is known and that what was moving goes on,
and names the APIs there are."""

import json
import os

from chalicelib import gateway
from chalicelib.core import access, sweep
from chalicelib.wiring import world

OWNER, USER = "default", "admin"


def main() -> None:
    """Admit the key if there is one, go on where a restart ended every workflow, print the names of the dialects as JSON."""
    if text := os.environ.get("SANDBAR_API_KEY"):
        access.admit_admin(world(), text, owner=OWNER, user=USER)
    sweep.resume(world())
    print(json.dumps(sorted(gateway.DIALECTS)))


if __name__ == "__main__":
    main()
