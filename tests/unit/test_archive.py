"""The archive: what is put is durable, found again, proven on reading; what goes wrong is said in words."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest.errors import LandingError, SourceError
from dagster_project.ingest.landing.archive import BLOCK, Archive, Stored, is_compressed


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(str(tmp_path / "landing"))


def read(archive: Archive, stored: Stored) -> bytes:
    with archive.open(stored.uri, stored.sha256) as body:
        return body.read()


def files(archive: Archive) -> list[Path]:
    return sorted(path for path in archive.root.rglob("*") if path.is_file())


def long_text() -> bytes:
    return b"".join(b"%d,%d,some text\n" % (n, n * 7919 % 100_003) for n in range(1_000_000))


@pytest.mark.parametrize("data", [b"", b"x", b'{"results": []}' * 1000, os.urandom(3 * BLOCK + 17)])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("as_stream", [False, True])
def test_what_is_put_comes_back(archive: Archive, data: bytes, compressed: bool, as_stream: bool) -> None:
    stored = archive.put(io.BytesIO(data) if as_stream else data, compressed=compressed)
    assert (stored.sha256, stored.size, stored.new) == (hashlib.sha256(data).hexdigest(), len(data), True)
    assert stored.uri == f"objects/{stored.sha256[:2]}/{stored.sha256[2:]}" + ("" if compressed else ".zst")
    assert read(archive, stored) == data
    assert files(archive) == [archive.path(stored.uri)]


def test_a_long_stream_is_compressed_in_pieces(archive: Archive) -> None:
    data = long_text()
    assert len(data) > 16 * BLOCK
    stored = archive.put(io.BytesIO(data))
    assert archive.path(stored.uri).stat().st_size < len(data) / 3
    assert hashlib.sha256(read(archive, stored)).hexdigest() == stored.sha256
    with archive.open(stored.uri) as body:
        assert body.readline() == b"0,0,some text\n"


def test_an_iterable_of_blocks_is_a_stream_too(archive: Archive) -> None:
    stored = archive.put(iter([b"a" * 10, b"b" * 20, b""]))
    assert read(archive, stored) == b"a" * 10 + b"b" * 20


def test_the_same_bytes_are_kept_once(archive: Archive) -> None:
    data = b"the same" * 500_000
    first = archive.put(data)
    again = [archive.put(data), archive.put(io.BytesIO(data)), archive.put(data, compressed=True)]
    assert [(s.uri, s.new) for s in again] == [(first.uri, False)] * 3
    assert len(files(archive)) == 1


def test_putting_again_mends_a_damaged_object(archive: Archive) -> None:
    stored = archive.put(b"precious" * 100)
    archive.path(stored.uri).write_bytes(b"rubbish")
    assert archive.put(b"precious" * 100).new
    assert read(archive, stored) == b"precious" * 100


def test_putting_again_makes_an_object_young(archive: Archive) -> None:
    path = archive.path(archive.put(b"old").uri)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    archive.put(b"old")
    assert path.stat().st_mtime > time.time() - 60


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "longer"])
def test_damage_is_found_while_reading(archive: Archive, compressed: bool, damage: str) -> None:
    stored = archive.put(os.urandom(200_000), compressed=compressed)
    path = archive.path(stored.uri)
    body = bytearray(path.read_bytes())
    if damage == "flipped":
        body[len(body) // 2] ^= 1
    changed = {"cut": body[:-100], "flipped": body, "emptied": bytearray(), "longer": body + b"more"}[damage]
    path.write_bytes(changed)
    with pytest.raises(LandingError, match=f"{path}: the archived bytes are damaged"):
        read(archive, stored)


def test_a_kept_object_can_be_sought_and_is_proven_first(archive: Archive) -> None:
    data = os.urandom(300_000)
    stored = archive.put(data, compressed=True)
    with archive.open(stored.uri) as body:
        assert body.seekable()
        assert body.read(10) == data[:10]
        assert body.seek(-10, os.SEEK_END) == len(data) - 10
        assert body.read() == data[-10:]
        body.seek(5)
        assert body.read(5) == data[5:10]
    archive.path(stored.uri).write_bytes(data[:-1] + b"?")
    with archive.open(stored.uri) as body, pytest.raises(LandingError, match="damaged"):
        body.seek(100_000)


def test_a_compressed_object_is_read_in_order(archive: Archive) -> None:
    stored = archive.put(b"text" * 1000)
    with archive.open(stored.uri) as body:
        assert not body.seekable()
        with pytest.raises(io.UnsupportedOperation):
            body.seek(2)


def test_a_missing_object_is_named(archive: Archive) -> None:
    stored = archive.put(b"here")
    archive.path(stored.uri).unlink()
    with pytest.raises(LandingError, match=r"are gone.*backup.*--full-refresh"):
        archive.open(stored.uri)


@pytest.mark.parametrize("uri", ["../../etc/passwd", "/etc/passwd", "objects/../../x"])
def test_no_object_is_outside(archive: Archive, uri: str) -> None:
    with pytest.raises(LandingError, match="outside"):
        archive.open(uri)


def test_a_bucket_is_refused_in_words() -> None:
    with pytest.raises(LandingError, match="give a path"):
        Archive("s3://bucket/landing")


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


def test_a_stream_that_breaks_leaves_nothing(archive: Archive) -> None:
    def broken() -> Iterator[bytes]:
        yield os.urandom(BLOCK)
        yield os.urandom(BLOCK)
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError, match="network"):
        archive.put(broken())
    assert files(archive) == []


def test_a_stream_that_cant_be_read_is_the_sources_fault(archive: Archive) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(SourceError, match="Input/output"):
        archive.put(Broken())


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


def test_threads_put_the_same_and_others_at_once(archive: Archive) -> None:
    stored: list[Stored] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            stored.append(archive.put(b"shared" * 10_000))
            stored.append(archive.put(b"own %d" % number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({s.uri for s in stored}) == 9
    assert len(files(archive)) == 9


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


def test_compressed_files_come_back_byte_for_byte(archive: Archive) -> None:
    data = gzip.compress(b"a,b\n" * 1000)
    stored = archive.put(io.BytesIO(data), compressed=is_compressed(name="x.csv.gz"))
    assert archive.path(stored.uri).read_bytes() == data


def test_an_object_goes_once_nobody_touched_it_for_a_while(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path))
    stored = archive.put(b"x" * 100)
    path = archive.path(stored.uri)
    size = path.stat().st_size
    assert archive.remove(stored.uri) is None
    assert path.exists()
    os.utime(path, (0, 0))
    assert archive.touch(stored.uri)
    assert archive.remove(stored.uri) is None
    os.utime(path, (0, 0))
    assert archive.remove(stored.uri) == size
    assert not archive.touch(stored.uri)
    assert archive.remove(stored.uri) == 0
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


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
