"""Dropped files against a real landing log: each observation once, whatever happens to the files meanwhile."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_project import warehouse
from dagster_project.ingest.cards import FileSourceCard
from dagster_project.ingest.errors import CardError, SourceError
from dagster_project.ingest.fetch import files as fetching
from dagster_project.ingest.fetch.arrivals import announce_arrivals
from dagster_project.ingest.fetch.folder import find_files
from dagster_project.ingest.fetch.report import StreamFetch
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.landing.archive import Archive
from dagster_project.ingest.landing.log import LandingLog
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.runtime import Runtime
from dagster_project.settings import Settings
from tests.integration.references import Values


@pytest.fixture
def runtime(settings: Settings, tmp_path: Path) -> Runtime:
    return Runtime(
        connect=lambda: warehouse.connect(settings, "loader"),
        landing=str(tmp_path / "landing"),
        resolver=Values(),
        base=tmp_path,
    )


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def card(**changes: Any) -> FileSourceCard:
    stream = {"name": "s", "files": changes.pop("files", ["**/*.csv"])}
    return FileSourceCard.model_validate(
        {"source": "files", "path": "inbox", "settle": 0, "streams": [stream], **changes}
    )


def put(folder: Path, name: str, text: str, age: float = 60) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    when = time.time() - age
    os.utime(path, (when, when))
    return path


def fetch(runtime: Runtime, source: FileSourceCard, **options: Any) -> StreamFetch:
    return fetch_source(source, runtime, **options).streams["s"]


def contents(runtime: Runtime) -> list[list[tuple[str, bytes]]]:
    """Give path and bytes of every object of every sealed batch."""
    archive = Archive(runtime.landing)

    def body(obj: LandedObject) -> bytes:
        with archive.open(obj.uri or "", obj.sha256) as file:
            return file.read()

    with runtime.connect() as connection:
        log = LandingLog(connection)
        batches = log.sealed_since("files", "s", "", 0)
        return [[(obj.origin, body(obj)) for obj in log.objects(batch.batch_id)] for batch in batches]


def test_files_land_whole_and_once(runtime: Runtime, drop: Path) -> None:
    put(drop, "b.csv", "b")
    put(drop, "sub/deep/a.csv", "a")
    put(drop, "other.txt", "no")
    assert fetch(runtime, card()).objects == 2
    assert fetch(runtime, card()).objects == 0
    assert contents(runtime) == [[("b.csv", b"b"), ("sub/deep/a.csv", b"a")]]


def test_the_same_bytes_in_succession_are_one_and_a_b_a_are_three(runtime: Runtime, drop: Path) -> None:
    for number, text in enumerate(["A", "A", "B", "A"]):
        put(drop, "x.csv", text, age=60 - number)
        fetch(runtime, card())
    assert contents(runtime) == [[("x.csv", b"A")], [("x.csv", b"B")], [("x.csv", b"A")]]


def test_two_files_with_the_same_bytes_are_two(runtime: Runtime, drop: Path) -> None:
    put(drop, "x.csv", "A")
    put(drop, "y.csv", "A")
    assert fetch(runtime, card()).objects == 2


def test_order_is_by_name_or_by_time(runtime: Runtime, drop: Path) -> None:
    put(drop, "a.csv", "a", age=10)
    put(drop, "b.csv", "b", age=30)
    fetch(runtime, card())
    fetch(runtime, card(source="later", order="modified"))
    assert [origin for origin, _ in contents(runtime)[0]] == ["a.csv", "b.csv"]
    with runtime.connect() as connection:
        log = LandingLog(connection)
        batch = log.newest_sealed("later", "s", "")
        assert batch is not None
        assert [obj.origin for obj in log.objects(batch.batch_id)] == ["b.csv", "a.csv"]


def test_unfinished_hidden_and_outside_files_are_passed_over(runtime: Runtime, drop: Path, tmp_path: Path) -> None:
    for name in (".hidden.csv", "a.csv.part", "b.csv.crdownload", "~$c.csv", ".git/d.csv", "e.csv~"):
        put(drop, name, "no")
    outside = put(tmp_path / "secret", "s.csv", "secret")
    (drop / "link.csv").symlink_to(outside)
    (drop / "folder").symlink_to(outside.parent)
    (drop / "inside.csv").symlink_to(put(drop, "real.csv", "yes"))
    os.mkfifo(drop / "pipe.csv")
    found = [each.origin for each in find_files(drop, ["**/*"])]
    assert found == ["inside.csv", "real.csv"]
    assert fetch(runtime, card()).objects == 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv"]),
        ("**/*.csv", ["a.csv", "x/b.csv", "x/y/c.csv"]),
        ("x/*", ["x/b.csv"]),
        ("x/**", ["x/b.csv", "x/y/c.csv"]),
        ("[ab].csv", ["a.csv"]),
        ("[!a].csv", []),
        ("?.csv", ["a.csv"]),
        ("A.csv", []),
    ],
)
def test_patterns(drop: Path, pattern: str, expected: list[str]) -> None:
    for name in ("a.csv", "x/b.csv", "x/y/c.csv"):
        put(drop, name, "x")
    assert [each.origin for each in find_files(drop, [pattern])] == expected


def test_a_young_file_waits_for_the_next_look(runtime: Runtime, drop: Path) -> None:
    put(drop, "old.csv", "old")
    put(drop, "young.csv", "young", age=0)
    report = fetch(runtime, card(settle="30s"))
    assert report.objects == 1
    assert any("young.csv" in warning for warning in report.warnings)


def test_a_moment_is_waited_for_a_file_that_is_almost_old_enough(runtime: Runtime, drop: Path) -> None:
    put(drop, "young.csv", "young", age=0)
    assert fetch(runtime, card(settle="500ms")).objects == 1


def test_a_file_that_grows_while_it_is_read_is_read_again(
    runtime: Runtime, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(drop, "x.csv", "first half")
    real = fetching._Steady.read
    grown = False

    def read(self: fetching._Steady, size: int = -1, /) -> bytes:
        nonlocal grown
        data = real(self, size)
        if not grown:
            grown = True
            with path.open("a") as file:
                file.write(", second half")
        return data

    monkeypatch.setattr(fetching._Steady, "read", read)
    assert fetch(runtime, card()).objects == 1
    assert contents(runtime) == [[("x.csv", b"first half, second half")]]


def test_a_file_that_never_stands_still_waits_and_the_others_land(
    runtime: Runtime, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(drop, "busy.csv", "x")
    put(drop, "calm.csv", "y")
    real = fetching._Steady.read

    def read(self: fetching._Steady, size: int = -1, /) -> bytes:
        if self._found.path == path:
            with path.open("a") as file:
                file.write("x")
        return real(self, size)

    monkeypatch.setattr(fetching._Steady, "read", read)
    report = fetch(runtime, card())
    assert report.objects == 1
    assert any("busy.csv" in warning for warning in report.warnings)


def test_a_file_that_vanishes_is_no_failure(runtime: Runtime, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(drop, "gone.csv", "x")
    put(drop, "stays.csv", "y")
    real = fetching._StreamOfFiles._land

    def land(self: Any, batch: Any, found: Any, *more: Any) -> None:
        path.unlink(missing_ok=True)
        real(self, batch, found, *more)

    monkeypatch.setattr(fetching._StreamOfFiles, "_land", land)
    report = fetch(runtime, card())
    assert report.objects == 1
    assert any("gone.csv" in warning for warning in report.warnings)


def test_an_unreadable_file_is_named_and_the_others_land(
    runtime: Runtime, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = put(drop, "locked.csv", "x")
    put(drop, "open.csv", "y")
    real = Path.open

    def refuse(self: Path, *args: Any, **options: Any) -> Any:  # root may read everything, so chmod proves nothing
        if self == locked:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match=r"locked\.csv can't be read \(Permission denied\)"):
        fetch(runtime, card())
    monkeypatch.undo()
    assert contents(runtime) == [[("open.csv", b"y")]]


def test_a_name_that_isnt_utf8_is_reported_and_the_others_land(runtime: Runtime, drop: Path) -> None:
    put(drop, "good.csv", "y")
    put(drop, "sub/also.csv", "z")
    for path in (os.fsencode(drop) + b"/\xff\x1b[31m.csv", os.fsencode(drop) + b"/sub/\xe9.csv"):
        with open(path, "wb") as file:
            file.write(b"x")
    for _ in range(2):  # the second time too, when there is nothing else to land
        with pytest.raises(
            SourceError, match=r"/inbox/\\xff\\x1b\[31m\.csv: its name isn't UTF-8: rename it"
        ) as caught:
            fetch(runtime, card())
        assert r"sub/\xe9.csv" in str(caught.value)
        assert str(caught.value).isprintable()
        assert not caught.value.transient
    assert contents(runtime) == [[("good.csv", b"y"), ("sub/also.csv", b"z")]]
    assert [landed.origin for landed in announce_arrivals(card(source="sensed"), runtime)] == [
        "good.csv",
        "sub/also.csv",
    ]


def test_links_in_circles_out_of_the_folder_and_to_nowhere_are_said(
    runtime: Runtime, drop: Path, tmp_path: Path
) -> None:
    put(drop, "good.csv", "y")
    (drop / "self.csv").symlink_to(drop / "self.csv")
    (drop / "one.csv").symlink_to("two.csv")
    (drop / "two.csv").symlink_to("one.csv")
    (drop / "gone.csv").symlink_to("nothing")
    (drop / "out.csv").symlink_to(put(tmp_path / "secret", "s.csv", "secret"))
    (drop / "up").symlink_to("..")
    report = fetch(runtime, card())
    assert contents(runtime) == [[("good.csv", b"y")]]
    assert sorted(report.warnings) == [
        "passed over: gone.csv: a link that leads nowhere (No such file or directory)",
        "passed over: one.csv, self.csv, two.csv: a link that leads nowhere (Too many levels of symbolic links)",
        "passed over: out.csv: a link that leads out of the folder",
    ]


def test_a_folder_that_cant_be_read_is_said_and_nothing_counts_as_deleted(
    runtime: Runtime, drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(drop, "good.csv", "y")
    put(drop, "locked/x.csv", "x")
    real = os.scandir

    def refuse(path: Any) -> Any:  # root may read everything, so chmod proves nothing
        if str(path).endswith(refused):
            raise PermissionError(13, "Permission denied")
        return real(path)

    refused = "locked"
    monkeypatch.setattr(os, "scandir", refuse)
    report = fetch(runtime, card(), full_refresh=True)
    assert report.warnings == ["passed over: locked/: the folder can't be read (Permission denied)"]
    with runtime.connect() as connection:
        batch = LandingLog(connection).newest_sealed("files", "s", "")
        assert batch is not None
        assert batch.stats["complete"] is False
    refused = "inbox"
    with pytest.raises(SourceError, match=r"inbox/: the folder can't be read \(Permission denied\)"):
        fetch(runtime, card())


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "x" * 5000])
def test_a_path_that_cant_be_is_the_cards_fault(runtime: Runtime, path: str) -> None:
    with pytest.raises(CardError, match="can't be looked at"):
        fetch(runtime, card(path=path))


@pytest.mark.parametrize("when", [2**62, -(2**62)])
def test_a_time_that_no_calendar_has_is_none(runtime: Runtime, drop: Path, when: int) -> None:
    put(drop, "good.csv", "y")
    found = next(find_files(drop, ["*"]))
    assert replace(found, mtime_ns=when * 1000).meta["modified_at"] is None
    assert replace(found, mtime_ns=when * 1000).age() > 0


def test_a_killed_fetch_goes_on_with_the_next_file(runtime: Runtime, drop: Path) -> None:
    for name in "abc":
        put(drop, f"{name}.csv", name)

    class Killed(BaseException):
        pass

    seen: list[str] = []

    def kill(stage: str) -> None:
        seen.append(stage)
        if seen.count("landed") == 2:
            raise Killed

    runtime.checkpoint = kill
    with pytest.raises(Killed):
        fetch(runtime, card())
    runtime.checkpoint = lambda _stage: None
    report = fetch(runtime, card())
    assert report.resumed
    assert report.objects == 1
    assert contents(runtime) == [[("a.csv", b"a"), ("b.csv", b"b"), ("c.csv", b"c")]]


def test_files_of_an_abandoned_batch_are_landed_again(runtime: Runtime, drop: Path) -> None:
    put(drop, "a.csv", "a")

    class Killed(BaseException):
        pass

    def kill(stage: str) -> None:
        if stage == "landed":
            raise Killed

    runtime.checkpoint = kill
    with pytest.raises(Killed):
        fetch(runtime, card())
    runtime.checkpoint = lambda _stage: None
    assert fetch(runtime, card(files=["*.csv"])).objects == 1
    assert contents(runtime) == [[("a.csv", b"a")]]


def test_a_full_refresh_lands_everything_again_and_is_complete(runtime: Runtime, drop: Path) -> None:
    put(drop, "a.csv", "a")
    fetch(runtime, card())
    assert fetch(runtime, card(), full_refresh=True).objects == 1
    with runtime.connect() as connection:
        newest = LandingLog(connection).newest_sealed("files", "s", "")
        assert newest is not None
        assert newest.stats["complete"] is True


def test_a_folder_that_is_not_there_is_a_warning_and_a_file_in_its_place_the_cards_mistake(
    runtime: Runtime, drop: Path
) -> None:
    report = fetch(runtime, card(path="nowhere"))
    assert "nowhere" in report.warnings[0]
    put(drop, "x.csv", "x")
    with pytest.raises(CardError, match="is a file"):
        fetch(runtime, card(path="inbox/x.csv"))


def test_nothing_new_leaves_no_batch_behind(runtime: Runtime, drop: Path) -> None:
    put(drop, "a.csv", "a")
    for _ in range(3):
        fetch(runtime, card())
    assert len(contents(runtime)) == 1


def test_arrivals_are_announced_once_and_landed_by_the_next_fetch(runtime: Runtime, drop: Path) -> None:
    put(drop, "a.csv", "a")
    put(drop, "young.csv", "young", age=0)
    source = card(settle="30s")
    (first,) = announce_arrivals(source, runtime)
    (again,) = announce_arrivals(source, runtime)
    assert (first.origin, first.landing_id, first.attempt) == ("a.csv", again.landing_id, again.attempt)
    assert fetch(runtime, source).objects == 1
    assert announce_arrivals(source, runtime) == []
    with runtime.connect() as connection:
        batch = LandingLog(connection).newest_sealed("files", "s", "")
        assert batch is not None
        assert [obj.landing_id for obj in LandingLog(connection).objects(batch.batch_id)] == [first.landing_id]


def test_a_touched_file_and_one_that_went_away_are_no_arrivals(runtime: Runtime, drop: Path) -> None:
    put(drop, "a.csv", "a")
    fetch(runtime, card())
    put(drop, "a.csv", "a", age=30)
    assert announce_arrivals(card(), runtime) == []
    gone = put(drop, "b.csv", "b")
    assert len(announce_arrivals(card(), runtime)) == 1
    gone.unlink()
    assert fetch(runtime, card()).objects == 0
    assert announce_arrivals(card(), runtime) == []
