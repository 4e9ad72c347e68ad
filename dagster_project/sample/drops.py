"""The drop folder: the readers' ratings as files that people drop, in every format they use, one with bad rows.

Files are written in a hidden folder and renamed, so that no reader sees half a file; one whose bytes would be the same
is left alone, its time included. Files of other revisions are never removed.
"""

from __future__ import annotations

import filecmp
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Protocol

from dagster_project.sample.ratings import Rating, Readers
from dagster_project.sample.revisions import day_of
from dagster_project.sample.world import DEFAULT_SEED, World
from dagster_project.sample.xlsx import Workbook

FOLDER = "ratings"
HAND_ENTERED = "ratings-entered-by-hand.csv"
BRANCH = "ratings-branch-library.xlsx"
_BRANCH_USERS = 60  # at any scale: a spreadsheet stays a file that a person could have
_COLUMNS = ("user_id", "book_id", "rating", "rated_at")
# (place among the good rows, the line): each is refused for a reason of its own.
_BAD_LINES = (
    (2, "{user},{book},six,2025-11-03T17:20:00Z"),
    (5, "{user},{book},4"),
    (9, "{user},{book},3,2025-02-30T09:15:00Z"),
    (13, "{user},{book},5,2025-11-08T12:00:00Z,very good,would read again"),
    (16, "{user},Dracula,5,2025-11-09T08:45:00Z"),
    (20, "{user},,2,2025-11-10T19:05:00Z"),
)


@dataclass(frozen=True, slots=True)
class DropReport:
    """What `write_drops` did."""

    folder: Path
    written: tuple[str, ...]
    unchanged: tuple[str, ...]


class _Writer(Protocol):
    def write(self, rating: Rating) -> None: ...
    def close(self) -> None: ...


def write_drops(drop_dir: Path, revision: int, scale: float = 1.0, seed: int = DEFAULT_SEED) -> DropReport:
    """Write the rating files of every revision up to `revision` into `drop_dir`/ratings.

    Returns:
        Which files were written and which already had these bytes.

    Raises:
        OSError: the folder can't be written; no half-written file stays behind.
    """
    world = World(revision, scale, seed)
    folder = drop_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".sample-", dir=drop_dir) as hidden:
        parts = {name: Path(hidden, name) for name in file_names(revision)}
        with ExitStack() as stack:
            writers = {name: _open(name, part) for name, part in parts.items() if name != HAND_ENTERED}
            for writer in writers.values():
                stack.callback(writer.close)
            for name, rating in _rows(world):
                writers[name].write(rating)
        parts[HAND_ENTERED].write_bytes(_hand_entered(world))
        written, unchanged = [], []
        for name, part in parts.items():
            target = folder / name
            if target.is_file() and filecmp.cmp(part, target, shallow=False):
                unchanged.append(name)
            else:
                part.replace(target)
                written.append(name)
    return DropReport(folder, tuple(written), tuple(unchanged))


def file_names(revision: int) -> list[str]:
    """Return the names of the files of every revision up to `revision`, in the order in which they came."""
    names = [
        "ratings-2024.csv",
        "ratings-2025-first-half.csv.gz",
        "ratings-2025-second-half.jsonl",
        BRANCH,
        HAND_ENTERED,
    ]
    for number in range(2, revision + 1):
        names += _names_of(number)
    return names


def count_drops(world: World) -> dict[str, Any]:
    """Return how many rows the files of a world have: all good ones, one per reader and book, bad ones."""
    files = dict.fromkeys(file_names(world.revision), 0)
    pairs = set()
    for name, rating in _rows(world):
        files[name] += 1
        pairs.add(rating.user_id << 40 | rating.book_id)
    by_hand = Readers(world).by_hand()
    files[HAND_ENTERED] = len(by_hand)
    pairs.update(r.user_id << 40 | r.book_id for r in by_hand)
    return {
        "rating_files": files,
        "ratings_rows": sum(files.values()),
        "ratings_distinct": len(pairs),
        "ratings_bad_rows": len(_BAD_LINES),
        "readers": len({pair >> 40 for pair in pairs}),
    }


def _names_of(revision: int) -> tuple[str, str, str]:
    day = day_of(revision).date().isoformat()
    ending = ("csv", "jsonl", "csv.gz")[revision % 3 - 2]
    return f"ratings-{day}.{ending}", f"corrections-{day}.csv", f"late-{day}.jsonl"


def _rows(world: World) -> Iterator[tuple[str, Rating]]:
    """Yield every good row with its file, reader by reader (the hand-entered file apart)."""
    readers = Readers(world)
    for user_id in range(1, readers.count + 1):
        ratings = readers.at_first(user_id)
        for rating in ratings:
            yield _file_of(rating), rating
        if user_id % 25 == 0 and _file_of(ratings[0]) == "ratings-2024.csv":
            # Somebody who thought again: the same book in a later file, and the later time wins.
            again = ratings[0].rated_at.replace(year=2025, month=10, day=1 + user_id % 28)
            yield (
                "ratings-2025-second-half.jsonl",
                ratings[0]._replace(rating=ratings[0].rating % 5 + 1, rated_at=again),
            )
    for revision in range(2, world.revision + 1):
        new, corrections, late = _names_of(revision)
        for user_id in range(1, readers.count + 1):
            yield from ((new, r) for r in readers.new_in(user_id, revision))
            yield from ((corrections, r) for r in readers.corrected_in(user_id, revision))
            yield from ((late, r) for r in readers.late_in(user_id, revision))


def _file_of(rating: Rating) -> str:
    if rating.user_id <= _BRANCH_USERS:
        return BRANCH
    if rating.rated_at.year == 2024:
        return "ratings-2024.csv"
    first_half = rating.rated_at.year == 2025 and rating.rated_at.month <= 6
    return "ratings-2025-first-half.csv.gz" if first_half else "ratings-2025-second-half.jsonl"


def _hand_entered(world: World) -> bytes:
    """Return the file that people typed: with a byte order mark, CRLF, and rows that can't be right."""
    ratings = Readers(world).by_hand()
    lines = [",".join(_COLUMNS)]
    bad = dict(_BAD_LINES)
    for place, rating in enumerate(ratings):
        lines.append(_csv_line(rating))
        if place in bad:
            lines.append(bad[place].format(user=rating.user_id, book=rating.book_id))
    return b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode()


def _csv_line(rating: Rating) -> str:
    return f"{rating.user_id},{rating.book_id},{rating.rating},{rating.rated_at:%Y-%m-%dT%H:%M:%SZ}"


def _open(name: str, path: Path) -> _Writer:
    if name.endswith(".xlsx"):
        return _XlsxWriter(path)
    raw: IO[bytes] = path.open("wb")
    if name.endswith(".gz"):
        return _TextWriter(name, _Gzip(raw))
    return _TextWriter(name, raw)


class _Gzip(gzip.GzipFile):
    """A gzip file without name and time inside (equal rows, equal bytes) that closes the file below it."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)
        self._raw = raw

    def close(self) -> None:
        super().close()
        self._raw.close()


class _TextWriter:
    """CSV or JSON lines, plain or gzipped."""

    def __init__(self, name: str, raw: Any) -> None:
        self._text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        self._json = name.endswith(".jsonl")
        if not self._json:
            self._text.write(",".join(_COLUMNS) + "\n")

    def write(self, rating: Rating) -> None:
        if self._json:
            row = {**rating._asdict(), "rated_at": f"{rating.rated_at:%Y-%m-%dT%H:%M:%SZ}"}
            self._text.write(json.dumps(row) + "\n")
        else:
            self._text.write(_csv_line(rating) + "\n")

    def close(self) -> None:
        self._text.close()


class _XlsxWriter:
    """A spreadsheet; times are texts in it, as people's exports have them."""

    def __init__(self, path: Path) -> None:
        self._book = Workbook(path)
        self._book.write_row(_COLUMNS)

    def write(self, rating: Rating) -> None:
        self._book.write_row((*rating[:3], f"{rating.rated_at:%Y-%m-%dT%H:%M:%SZ}"))

    def close(self) -> None:
        self._book.close()
