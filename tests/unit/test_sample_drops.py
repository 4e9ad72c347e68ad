"""The drop folder: files that standard readers can read, the same bytes each time, bad rows where they belong."""

from __future__ import annotations

import contextlib
import csv
import gzip
import importlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow.csv
import pytest

from dagster_project.sample.drops import BRANCH, HAND_ENTERED, count_drops, file_names, write_drops
from dagster_project.sample.ratings import Readers
from dagster_project.sample.revisions import day_of
from dagster_project.sample.world import World

Row = tuple[int, int, int, datetime]
COLUMNS = ["user_id", "book_id", "rating", "rated_at"]


def _row(values: dict[str, object]) -> Row:
    assert list(values) == COLUMNS
    user, book, rating = (int(str(values[c])) for c in COLUMNS[:3])
    return user, book, rating, datetime.fromisoformat(str(values["rated_at"]))


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".xlsx":
        openpyxl = importlib.import_module("openpyxl")  # it has no types; a plain import would need an ignore
        with contextlib.closing(openpyxl.load_workbook(path, read_only=True)) as book:
            names, *cells = book["ratings"].iter_rows(values_only=True)
            assert list(names) == COLUMNS
            for values in cells:
                yield _row(dict(zip(COLUMNS, values, strict=True)))
    elif path.suffix == ".jsonl":
        for line in path.read_text(encoding="utf-8").splitlines():
            yield _row(json.loads(line))
    else:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for values in csv.DictReader(io.StringIO(data.decode())):
            yield _row(dict(values))


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drop")
    write_drops(folder, 2)
    return folder / "ratings"


def test_files_parse_with_ordinary_readers_and_hold_what_is_counted(dropped: Path) -> None:
    world = World(2)
    counted = count_drops(world)
    assert sorted(p.name for p in dropped.iterdir()) == sorted(file_names(2))
    known = {b.work.id for b in world.catalogue.slice(0, 10**9)}
    pairs = set()
    for name in file_names(2):
        if name == HAND_ENTERED:
            continue
        rows = list(_rows(dropped / name))
        assert len(rows) == counted["rating_files"][name] > 0
        for user, book, rating, when in rows:
            pairs.add((user, book))
            assert book in known
            assert 1 <= rating <= 5
            assert when.utcoffset() is not None
    by_hand = counted["rating_files"][HAND_ENTERED]
    assert counted["ratings_rows"] > 3000
    assert counted["ratings_distinct"] == len(pairs) + by_hand
    assert counted["ratings_distinct"] < counted["ratings_rows"]
    assert counted["readers"] > 300


def test_arrow_reads_the_csv_files(dropped: Path) -> None:
    table = pyarrow.csv.read_csv(dropped / "ratings-2025-first-half.csv.gz")
    assert table.column_names == COLUMNS
    assert str(table.schema.field("rating").type) == "int64"
    assert str(table.schema.field("rated_at").type).startswith("timestamp")


def test_bad_rows_are_bad_for_six_different_reasons(dropped: Path) -> None:
    text = (dropped / HAND_ENTERED).read_bytes().decode("utf-8-sig")
    assert text.count("\r\n") == text.count("\n") == 1 + 24 + 6
    header, *lines = csv.reader(io.StringIO(text))
    assert header == COLUMNS
    reasons: Counter[str] = Counter()
    good = 0
    for fields in lines:
        if len(fields) != 4:
            reasons["short" if len(fields) < 4 else "long"] += 1
        elif not all(f.isdigit() for f in fields[:3]):
            reasons[f"not a number: {next(f for f in fields[:3] if not f.isdigit())}"] += 1
        else:
            try:
                datetime.fromisoformat(fields[3])
                good += 1
            except ValueError:
                reasons["no such date"] += 1
    assert reasons == {
        "short": 1,
        "long": 1,
        "not a number: six": 1,
        "not a number: Dracula": 1,
        "not a number: ": 1,
        "no such date": 1,
    }
    assert good == count_drops(World(2))["rating_files"][HAND_ENTERED]


def test_same_bytes_in_two_folders_and_untouched_when_repeated(tmp_path: Path) -> None:
    first = write_drops(tmp_path / "a", 2)
    write_drops(tmp_path / "b", 2)
    assert set(first.written) == set(file_names(2))
    for name in file_names(2):
        assert (tmp_path / "a/ratings" / name).read_bytes() == (tmp_path / "b/ratings" / name).read_bytes()
        os.utime(tmp_path / "a/ratings" / name, (1, 1))

    (tmp_path / "a/ratings" / BRANCH).write_bytes(b"changed by somebody")
    (tmp_path / "a/ratings/my-own.csv").write_text("user_id,book_id,rating,rated_at\n", encoding="utf-8")
    again = write_drops(tmp_path / "a", 2)
    assert again.written == (BRANCH,)
    times = {p.name: p.stat().st_mtime for p in (tmp_path / "a/ratings").iterdir()}
    assert all(times[name] == 1 for name in again.unchanged)
    assert "my-own.csv" in times
    assert (tmp_path / "a/ratings" / BRANCH).read_bytes() == (tmp_path / "b/ratings" / BRANCH).read_bytes()


def test_next_revision_adds_files_and_leaves_the_old_ones(tmp_path: Path) -> None:
    write_drops(tmp_path, 1)
    report = write_drops(tmp_path, 2)
    assert sorted(report.written) == ["corrections-2026-01-19.csv", "late-2026-01-19.jsonl", "ratings-2026-01-19.csv"]
    assert set(report.unchanged) == set(file_names(1))
    back = write_drops(tmp_path, 1)
    assert back.written == ()
    assert (tmp_path / "ratings/late-2026-01-19.jsonl").is_file()


def test_corrections_win_and_stale_late_ratings_lose(dropped: Path) -> None:
    base: dict[tuple[int, int], Row] = {}
    for name in file_names(1):
        if name != HAND_ENTERED:
            for row in _rows(dropped / name):
                if row[:2] not in base or base[row[:2]][3] < row[3]:
                    base[row[:2]] = row
    corrections = list(_rows(dropped / "corrections-2026-01-19.csv"))
    assert len(corrections) >= 5
    for row in corrections:
        assert row[3] > base[row[:2]][3]
        assert row[3] < day_of(2)
    changed = [row for row in corrections if row[2] != base[row[:2]][2]]
    assert len(changed) >= 5
    late = list(_rows(dropped / "late-2026-01-19.jsonl"))
    assert all(row[3].year == 2023 or row[3].year == 2024 for row in late)
    stale = [row for row in late if row[:2] in base]
    assert stale
    assert all(row[3] < base[row[:2]][3] and row[2] != base[row[:2]][2] for row in stale)
    assert len(late) > len(stale)


def test_half_written_files_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Readers) -> list[object]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Readers, "by_hand", full)
    with pytest.raises(OSError, match="No space left"):
        write_drops(tmp_path, 1)
    assert [path.name for path in tmp_path.rglob("*")] == ["ratings"]


def test_readers_like_their_favourite_shelves_better() -> None:
    world = World(1)
    readers = Readers(world)
    shelf = {b.work.id: b.work.category for b in world.catalogue.slice(0, 10**9)}
    liked: list[int] = []
    other: list[int] = []
    for user in range(1, readers.count + 1):
        ratings = readers.at_first(user)
        most = {name for name, _ in Counter(shelf[r.book_id] for r in ratings).most_common(2)}
        for rating in ratings:
            (liked if shelf[rating.book_id] in most else other).append(rating.rating)
    assert len(liked) > len(other)
    assert sum(liked) / len(liked) > sum(other) / len(other) + 0.5


def test_ratings_grow_with_the_scale(tmp_path: Path) -> None:
    small, large = count_drops(World(1)), count_drops(World(1, 4))
    # A little more than four times: on larger shelves a reader picks the same book twice less often.
    assert 4 < large["ratings_rows"] / small["ratings_rows"] < 5.5
    assert large["rating_files"][BRANCH] < 2 * small["rating_files"][BRANCH]  # a spreadsheet stays a spreadsheet
    write_drops(tmp_path, 1, 4)
    books = {row[1] for row in _rows(tmp_path / "ratings/ratings-2024.csv")}
    assert any(book > 1_000_000 for book in books)
    assert any(book < 1_000_000 for book in books)
