"""The archive in a folder: what every archive promises, and what a disk may do to it, said in words."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest.errors import LandingError
from dagster_project.ingest.landing.archive import BLOCK, Archive, is_compressed
from dagster_project.ingest.landing.store import archive_at
from tests.archive_contract import *  # noqa: F403 - the tests that every archive has to pass


class Folder:
    """A folder's archive, and what its tests do behind its back."""

    def __init__(self, root: Path) -> None:
        self.archive = Archive(str(root))

    def objects(self) -> list[str]:
        return [path.relative_to(self.archive.root).as_posix() for path in files(self.archive)]

    def body(self, uri: str) -> bytes:
        return self.archive.path(uri).read_bytes()

    def overwrite(self, uri: str, body: bytes) -> None:
        self.archive.path(uri).write_bytes(body)

    def delete(self, uri: str) -> None:
        self.archive.path(uri).unlink()

    def grow_old(self, uri: str) -> None:
        os.utime(self.archive.path(uri), (1_000_000_000, 1_000_000_000))

    def age(self, uri: str) -> float:
        return time.time() - self.archive.path(uri).stat().st_mtime

    def name(self, uri: str) -> str:
        return str(self.archive.path(uri))


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "landing")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "landing"))


def files(archive: Archive) -> list[Path]:
    return sorted(path for path in archive.root.rglob("*") if path.is_file())


def test_another_kind_of_url_is_refused_in_words() -> None:
    with pytest.raises(LandingError, match=r"give a folder's path, or s3://bucket/prefix"):
        archive_at("gs://bucket/landing")


def test_old_leftovers_of_killed_processes_go_young_ones_stay(archive: Archive) -> None:
    folder = archive.root / "tmp"
    folder.mkdir(parents=True)
    old, young = folder / "1-old.part", folder / "2-young.part"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    archive.put(b"something")
    assert not old.exists()
    assert young.exists()


def test_a_full_disk_is_said_with_the_fix(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LandingError, match=r"no space left.*BINDERY_LANDING_URL"):
        archive.put(b"data")
    assert files(archive) == []


def test_a_real_full_device_is_said_with_the_fix(archive: Archive) -> None:
    """A file of limited size stands in for a small disk: the kernel refuses the write itself."""
    import resource
    import signal

    data = os.urandom(4 * BLOCK)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * BLOCK, hard))
    try:
        with pytest.raises(LandingError, match=r"can't be written: File too large"):
            archive.put(io.BytesIO(data), compressed=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert files(archive) == []


def test_a_root_that_isnt_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LandingError, match=f"{tmp_path}/file/landing can't be written"):
        Archive(str(tmp_path / "file" / "landing")).put(b"x")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"media_type": "application/json"}, False),
        ({"media_type": "application/zip; x=1"}, True),
        ({"media_type": "IMAGE/PNG"}, True),
        ({"name": "ratings.csv"}, False),
        ({"name": "ratings.CSV.GZ"}, True),
        ({"name": "books.xlsx"}, True),
        ({"name": "books.parquet", "media_type": "application/octet-stream"}, True),
        ({}, False),
    ],
)
def test_what_is_compressed_already_is_known(known: dict[str, Any], expected: bool) -> None:
    assert is_compressed(**known) is expected


def test_an_object_touched_while_it_is_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(str(tmp_path))
    stored = archive.put(b"bytes")
    path = archive.path(stored.uri)
    os.utime(path, (0, 0))
    rename = Path.rename

    def touched(self: Path, target: Path) -> Path:
        if self == path:
            os.utime(path)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", touched)
    assert archive.remove(stored.uri) is None
    with archive.open(stored.uri) as reader:
        assert reader.read() == b"bytes"
