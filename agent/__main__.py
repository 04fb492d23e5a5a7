"""`python -m agent`: boots, serves until SIGTERM, and ends with 0; 78 where the control plane does not know us."""

import asyncio
import logging
import os
import sys
import time

from agent import boot, server
from agent.control import Control


def main() -> int:
    # A little before now: the kernel stamps files with a clock that lags by up to one tick.
    born_ns = time.time_ns() - 20_000_000
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        given = boot.settings(os.environ)
        control = Control(given.control)
        asyncio.run(server.serve(boot.boot(given, born_ns, control), control))
    except boot.Ended as end:
        logging.error("%s", end)
        return end.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
