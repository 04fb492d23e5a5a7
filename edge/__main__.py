"""`python -m edge`: serve until told to end. Exit code 2 where the settings are wrong, 1 where the port is taken."""

import os
import sys

import uvloop

from chalicelib import wiring
from edge import listening, logs, settings


def main() -> int:
    """Run the edge."""
    logs.begin()
    try:
        ours, world = settings.from_environment(os.environ), wiring.world()
    except (KeyError, ValueError) as problem:
        print(f"sandbar edge: {problem}", file=sys.stderr)
        return 2
    try:
        uvloop.run(listening.serve(world, ours))
    except OSError as problem:
        print(f"sandbar edge: cannot listen on {ours.host}:{ours.port}: {problem.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
