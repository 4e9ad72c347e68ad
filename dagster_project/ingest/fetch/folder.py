"""A folder's files: which ones a stream wants, which are whole, and what tells one observation of a file from another.

Used by the fetch of files and by the look for new arrivals, so that both see the same.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from dagster_project.ingest.landing.model import LandedObject

UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".swp", ".filepart", "~")
"""Ends of names that programs give to files they are still writing."""
_BLOCK = 1024 * 1024
_ESCAPED = 0xDC00
"""Python reads a byte of a name that isn't UTF-8 as the character of this number plus the byte's."""


@dataclass(frozen=True, slots=True)
class Found:
    """One observation of one file."""

    path: Path
    origin: str
    """Path below the folder, with ``/``."""
    size: int
    mtime_ns: int

    @property
    def fingerprint(self) -> str:
        """Tell this observation from any other."""
        return hashlib.sha256(f"{self.origin}\0{self.mtime_ns}\0{self.size}".encode()).hexdigest()

    @property
    def meta(self) -> dict[str, Any]:
        """What is kept with the landed file."""
        try:
            modified = datetime.fromtimestamp(self.mtime_ns / 1e9, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            modified = None  # a time that no calendar has: some file systems keep any number
        return {"mtime_ns": self.mtime_ns, "size": self.size, "modified_at": modified}

    def seen_as(self, landed: LandedObject | None) -> bool:
        """Tell whether a landed file is of this very observation, going by time and size alone."""
        if landed is None:
            return False
        return (landed.meta.get("mtime_ns"), landed.meta.get("size")) == (self.mtime_ns, self.size)

    def age(self) -> float:
        """Seconds since it was last written; a time in the future counts as long ago."""
        age = time.time() - self.mtime_ns / 1e9
        return age if age >= -60 else float("inf")


@dataclass(frozen=True, slots=True)
class Passed:
    """Something that a stream would want and that isn't taken."""

    name: str
    """Path below the folder, for messages."""
    why: str
    refused: bool = False
    """Whether it is a file whose rows are missing now, rather than something that never was one."""
    unseen: bool = False
    """Whether files may be missing behind it."""


def find_files(folder: Path, patterns: Iterable[str], passed: list[Passed] | None = None) -> Iterator[Found]:
    """Find the regular files that match, below the folder and nowhere else.

    Dot files, unfinished files and links that lead out of the folder are passed over; so is what vanishes meanwhile.

    Args:
        folder: Where to look.
        patterns: What to look for.
        passed: Gets what matches, or may hide what does, and isn't given.
    """
    wanted = [matcher(pattern) for pattern in patterns]
    passed = passed if passed is not None else []
    root = folder.resolve()
    for path in _walk(root, root, passed):
        origin = path.relative_to(root).as_posix()
        if not any(regex.fullmatch(origin) for regex in wanted):
            continue
        try:
            facts = path.stat()
        except OSError as error:
            if path.is_symlink():
                passed.append(Passed(visible(origin), f"a link that leads nowhere ({error.strerror})"))
            elif not isinstance(error, FileNotFoundError):
                passed.append(Passed(visible(origin), f"it can't be looked at ({error.strerror})", refused=True))
            continue
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            passed.append(Passed(visible(origin), "a link that leads out of the folder"))
        elif not stat.S_ISREG(facts.st_mode):
            continue
        elif not _is_text(origin):
            passed.append(Passed(visible(origin), "its name isn't UTF-8: rename it", refused=True))
        else:
            yield Found(path, origin, facts.st_size, facts.st_mtime_ns)


def visible(name: str | Path) -> str:
    """Write a name for a message: what a terminal would act upon, and bytes that aren't text, as escapes."""
    return "".join(map(_visible, str(name)))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    if _ESCAPED <= ord(character) <= _ESCAPED + 0xFF:
        return f"\\x{ord(character) - _ESCAPED:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(folder: Path, root: Path, passed: list[Passed]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        name = "" if folder == root else visible(folder.relative_to(root).as_posix()) + "/"
        passed.append(Passed(name, f"the folder can't be read ({error.strerror})", refused=not name, unseen=True))
        return
    for entry in entries:
        if entry.name.startswith((".", "~$")) or entry.name.lower().endswith(UNFINISHED):
            continue
        # Links to folders aren't followed: they may lead out, or in circles.
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), root, passed)
        else:
            yield Path(entry.path)


@functools.lru_cache(maxsize=512)
def matcher(pattern: str) -> re.Pattern[str]:
    """Translate a pattern: ``*`` and ``?`` stay inside a folder, ``**/`` is any folders, ``[...]`` one of these."""
    pattern = str(PurePosixPath(pattern))
    out = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            out.append("(?:[^/]+/)*")
            position += 3
            continue
        character = pattern[position]
        if pattern.startswith("**", position):
            out.append(".*")
            position += 2
            continue
        end = pattern.find("]", position + 2) if character == "[" else -1
        if end > 0:
            inner = pattern[position + 1 : end].replace("\\", "\\\\")
            out.append("[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]")
            position = end + 1
            continue
        out.append({"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character))
        position += 1
    return re.compile("".join(out), re.DOTALL)


@functools.lru_cache(maxsize=4096)
def hash_of(found: Found) -> str:
    """Hash an observation's bytes; remembered, so that a file that was only touched is read once.

    Raises:
        OSError: It can't be read.
    """
    digest = hashlib.sha256()
    with found.path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_new(found: Found, last: LandedObject | None) -> bool:
    """Tell whether a file holds other bytes than when it was last landed.

    Raises:
        OSError: It can't be read.
    """
    if last is None:
        return True
    if found.seen_as(last):
        return False
    return found.size != last.size or hash_of(found) != last.sha256
