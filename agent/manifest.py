"""`python -m agent.manifest [root] > image.manifest`: what an image holds, for image builds. See `checkpoint.changes`."""

import sys

import zstandard

from agent.checkpoint.changes import APART, Survey, described, mounts


def lines(root: str) -> list[str]:
    """One line for every path below `root`, which is mounted file systems excepted."""
    survey = Survey(root.rstrip("/"), 0, apart=APART | mounts(root))
    return [described(found) for found in survey.everything()]


def main() -> None:
    root = sys.argv[1] if len(sys.argv) > 1 else "/"
    text = "".join(f"{line}\n" for line in lines(root)).encode("ascii")
    sys.stdout.buffer.write(zstandard.ZstdCompressor(level=9).compress(text))


if __name__ == "__main__":
    main()
