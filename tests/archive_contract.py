"""What every archive of raw bytes promises, whether it is a folder or a bucket.

A suite imports these tests and gives them a fixture ``place``: an empty archive, and ways to look behind it.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from typing import Protocol

import pytest

from dagster_project.ingest.errors import LandingError, SourceError
from dagster_project.ingest.landing.archive import BLOCK, Stored, is_compressed
from dagster_project.ingest.landing.store import AnyArchive


class Place(Protocol):
    """An archive, and what its tests do behind its back."""

    archive: AnyArchive

    def objects(self) -> list[str]:
        """List everything that is kept, leftovers included."""
        ...

    def body(self, uri: str) -> bytes:
        """Give an object as it is stored."""
        ...

    def overwrite(self, uri: str, body: bytes) -> None:
        """Damage an object."""
        ...

    def delete(self, uri: str) -> None:
        """Take an object away."""
        ...

    def grow_old(self, uri: str) -> None:
        """Let days pass for an object."""
        ...

    def age(self, uri: str) -> float:
        """Give the seconds since it was put or touched."""
        ...

    def name(self, uri: str) -> str:
        """Give what messages call an object."""
        ...


def read(place: Place, stored: Stored) -> bytes:
    with place.archive.open(stored.uri, stored.sha256) as body:
        return body.read()


def long_text() -> bytes:
    return b"".join(b"%d,%d,some text\n" % (n, n * 7919 % 100_003) for n in range(1_000_000))


@pytest.mark.parametrize("data", [b"", b"x", b'{"results": []}' * 1000, os.urandom(3 * BLOCK + 17)])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("as_stream", [False, True])
def test_what_is_put_comes_back(place: Place, data: bytes, compressed: bool, as_stream: bool) -> None:
    stored = place.archive.put(io.BytesIO(data) if as_stream else data, compressed=compressed)
    digest = hashlib.sha256(data).hexdigest()
    assert (stored.sha256, stored.size, stored.new) == (digest, len(data), True)
    assert stored.uri == f"objects/{digest[:2]}/{digest[2:]}" + ("" if compressed else ".zst")
    assert read(place, stored) == data
    assert place.objects() == [stored.uri]


def test_a_long_stream_is_compressed_in_pieces(place: Place) -> None:
    data = long_text()
    assert len(data) > 16 * BLOCK
    stored = place.archive.put(io.BytesIO(data))
    assert len(place.body(stored.uri)) < len(data) / 3
    assert hashlib.sha256(read(place, stored)).hexdigest() == stored.sha256
    with place.archive.open(stored.uri) as body:
        assert body.readline() == b"0,0,some text\n"


def test_an_iterable_of_blocks_is_a_stream_too(place: Place) -> None:
    stored = place.archive.put(iter([b"a" * 10, b"b" * 20, b""]))
    assert read(place, stored) == b"a" * 10 + b"b" * 20


def test_the_same_bytes_are_kept_once(place: Place) -> None:
    data = b"the same" * 500_000
    first = place.archive.put(data)
    again = [place.archive.put(data), place.archive.put(io.BytesIO(data)), place.archive.put(data, compressed=True)]
    assert [(s.uri, s.new) for s in again] == [(first.uri, False)] * 3
    assert len(place.objects()) == 1


def test_putting_again_mends_a_damaged_object(place: Place) -> None:
    stored = place.archive.put(b"precious" * 100)
    place.overwrite(stored.uri, b"rubbish")
    assert place.archive.put(b"precious" * 100).new
    assert read(place, stored) == b"precious" * 100


def test_putting_again_makes_an_object_young(place: Place) -> None:
    uri = place.archive.put(b"old").uri
    place.grow_old(uri)
    assert place.age(uri) > 86_400
    place.archive.put(b"old")
    assert place.age(uri) < 60


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "longer"])
def test_damage_is_found_while_reading(place: Place, compressed: bool, damage: str) -> None:
    stored = place.archive.put(os.urandom(200_000), compressed=compressed)
    body = bytearray(place.body(stored.uri))
    if damage == "flipped":
        body[len(body) // 2] ^= 1
    changed = {"cut": body[:-100], "flipped": body, "emptied": bytearray(), "longer": body + b"more"}[damage]
    place.overwrite(stored.uri, bytes(changed))
    with pytest.raises(LandingError, match=f"{place.name(stored.uri)}: the archived bytes are damaged"):
        read(place, stored)


def test_a_kept_object_can_be_sought_and_is_proven_first(place: Place) -> None:
    data = os.urandom(300_000)
    stored = place.archive.put(data, compressed=True)
    with place.archive.open(stored.uri) as body:
        assert body.seekable()
        assert body.read(10) == data[:10]
        assert body.seek(-10, os.SEEK_END) == len(data) - 10
        assert body.read() == data[-10:]
        body.seek(5)
        assert body.read(5) == data[5:10]
    place.overwrite(stored.uri, data[:-1] + b"?")
    with place.archive.open(stored.uri) as body, pytest.raises(LandingError, match="damaged"):
        body.seek(100_000)


def test_a_compressed_object_is_read_in_order(place: Place) -> None:
    stored = place.archive.put(b"text" * 1000)
    with place.archive.open(stored.uri) as body:
        assert not body.seekable()
        with pytest.raises(io.UnsupportedOperation):
            body.seek(2)


def test_a_missing_object_is_named(place: Place) -> None:
    stored = place.archive.put(b"here")
    place.delete(stored.uri)
    with pytest.raises(LandingError, match=r"are gone.*backup.*--full-refresh"):
        place.archive.open(stored.uri)


@pytest.mark.parametrize("uri", ["../../etc/passwd", "/etc/passwd", "objects/../../x"])
def test_no_object_is_outside(place: Place, uri: str) -> None:
    with pytest.raises(LandingError, match="outside"):
        place.archive.open(uri)


def test_a_stream_that_breaks_leaves_nothing(place: Place) -> None:
    def broken() -> Iterator[bytes]:
        yield os.urandom(BLOCK)
        yield os.urandom(BLOCK)
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError, match="network"):
        place.archive.put(broken())
    assert place.objects() == []


def test_a_stream_that_cant_be_read_is_the_sources_fault(place: Place) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(SourceError, match="Input/output"):
        place.archive.put(Broken())


def test_threads_put_the_same_and_others_at_once(place: Place) -> None:
    stored: list[Stored] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            stored.append(place.archive.put(b"shared" * 10_000))
            stored.append(place.archive.put(b"own %d" % number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({s.uri for s in stored}) == 9
    assert len(place.objects()) == 9


def test_compressed_files_come_back_byte_for_byte(place: Place) -> None:
    data = gzip.compress(b"a,b\n" * 1000)
    stored = place.archive.put(io.BytesIO(data), compressed=is_compressed(name="x.csv.gz"))
    assert place.body(stored.uri) == data


def test_an_object_goes_once_nobody_touched_it_for_a_while(place: Place) -> None:
    stored = place.archive.put(b"x" * 100)
    size = len(place.body(stored.uri))
    assert place.archive.remove(stored.uri) is None
    assert place.objects() == [stored.uri]
    place.grow_old(stored.uri)
    assert place.archive.touch(stored.uri)
    assert place.archive.remove(stored.uri) is None
    place.grow_old(stored.uri)
    assert place.archive.remove(stored.uri) == size
    assert not place.archive.touch(stored.uri)
    assert place.archive.remove(stored.uri) == 0
    assert place.objects() == []
