"""`python -m benchmarks`: all of them, or those that are named."""

import importlib
import os
import platform
import sys

from benchmarks.stand import standing

ALL = ("exec", "create", "transfer")


def main(names: list[str]) -> int:
    """Measure and print."""
    if unknown := [name for name in names if name not in ALL]:
        print(f"there is no benchmark {unknown[0]}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning")
    with standing() as stand:
        for name in names or ALL:
            importlib.import_module(f"benchmarks.{name}").measure(stand)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
