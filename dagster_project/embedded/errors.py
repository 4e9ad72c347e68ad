"""What can go wrong with the embedded server, in words that say what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

NEEDED_BYTES = 120_000_000
"""A fresh cluster (46 MB) with the platform's two databases and the first write-ahead log segments."""

FULL_DISK_WORDS = ("No space left on device", "Disk quota exceeded", "disk full", "File too large")


class EmbeddedError(Exception):
    """The embedded Postgres can't be installed, started or stopped."""

    exit_code = 5


class DiskFullError(EmbeddedError):
    """There is no room for the database's files."""


def disk_full(path: Path, detail: str) -> DiskFullError:
    """Say which disk is full, how much is free and what to do."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 1e6
    return DiskFullError(
        f"the disk of {existing} is full ({free:,.0f} MB free): Postgres said {detail.strip()!r}. Free some space and "
        "run the command again, or point BINDERY_DATA_DIR to a larger disk. Nothing committed is lost"
    )


def mentions_full_disk(text: str) -> str | None:
    """Give the line that tells of a full disk, if there is one."""
    return next((line for line in text.splitlines() if any(words in line for words in FULL_DISK_WORDS)), None)
