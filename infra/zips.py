"""Zip files whose bytes follow from their contents alone."""

import os
import zipfile
from pathlib import Path

THEN = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def pack(folder: Path, target: Path) -> None:
    """Every file below the folder, in order, without its date, readable by all. The target appears whole or not at all."""
    beside = target.with_suffix(".part")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), THEN)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    os.replace(beside, target)
