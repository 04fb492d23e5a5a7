"""`python -m local.admit`: sees that the administrator's key in SANDBAR_API_KEY is known, and names the APIs there are."""

import json
import os

from chalicelib import gateway
from chalicelib.core import access
from chalicelib.wiring import world

OWNER, USER = "default", "admin"


def main() -> None:
    """Admit the key if there is one; print the names of the dialects as JSON."""
    if text := os.environ.get("SANDBAR_API_KEY"):
        access.admit_admin(world(), text, owner=OWNER, user=USER)
    print(json.dumps(sorted(gateway.DIALECTS)))


if __name__ == "__main__":
    main()
