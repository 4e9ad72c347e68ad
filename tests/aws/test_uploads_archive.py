"""The archive in a bucket: what every archive promises, and what buckets add to it."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Any

import pytest

from dagster_project.ingest.errors import LandingError
from dagster_project.ingest.landing.bucket import BucketArchive
from dagster_project.ingest.landing.store import archive_at
from dagster_project.ingest.s3 import parts
from dagster_project.ingest.s3.client import client
from dagster_project.ingest.s3.copy import Head, head
from dagster_project.ingest.s3.place import Place as At
from dagster_project.ingest.s3.place import place_of
from tests.archive_contract import *  # noqa: F403 - the tests that every archive has to pass
from tests.aws.moto import Moto

LANDING = At("landing", "raw/")


class Aging(BucketArchive):
    """An archive in which objects can be made old: nobody can tell a bucket when something was written."""

    def __init__(self, place: At) -> None:
        super().__init__(place)
        self.old: list[dict[str, str]] = []

    def _age(self, found: Head) -> float:
        return found.age + (100 * 86_400 if found.metadata in self.old else 0)


class Bucket:
    """A bucket's archive, and what its tests do behind its back."""

    def __init__(self) -> None:
        self.archive = Aging(LANDING)
        self.client: Any = client("s3")

    def objects(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket="landing").get("Contents", [])
        uploads = self.client.list_multipart_uploads(Bucket="landing").get("Uploads", [])
        return sorted(each["Key"].removeprefix("raw/") for each in [*found, *uploads])

    def body(self, uri: str) -> bytes:
        body: bytes = self.client.get_object(Bucket="landing", Key=f"raw/{uri}")["Body"].read()
        return body

    def overwrite(self, uri: str, body: bytes) -> None:
        self.client.put_object(Bucket="landing", Key=f"raw/{uri}", Body=body)

    def delete(self, uri: str) -> None:
        self.client.delete_object(Bucket="landing", Key=f"raw/{uri}")

    def grow_old(self, uri: str) -> None:
        self.archive.old.append(self._head(uri).metadata)
        self.archive._own.clear()

    def age(self, uri: str) -> float:
        return self.archive._age(self._head(uri))

    def name(self, uri: str) -> str:
        return f"s3://landing/raw/{uri}"

    def _head(self, uri: str) -> Head:
        found = head("landing", f"raw/{uri}")
        assert found is not None
        return found


@pytest.fixture
def place(aws: Moto) -> Bucket:
    aws.client("s3").create_bucket(Bucket="landing", CreateBucketConfiguration={"LocationConstraint": aws.region})
    return Bucket()


def test_a_landing_url_means_a_bucket(place: Bucket) -> None:
    archive = archive_at("s3://landing/raw")
    assert isinstance(archive, BucketArchive)
    assert archive.place == LANDING


@pytest.mark.parametrize("compressed", [False, True])
def test_a_large_stream_goes_in_parts_with_memory_for_one(place: Bucket, compressed: bool) -> None:
    import tracemalloc

    block, blocks = os.urandom(1024 * 1024), 40
    digest = hashlib.sha256(block * blocks).hexdigest()
    tracemalloc.start()
    stored = place.archive.put((block for _ in range(blocks)), compressed=compressed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (stored.sha256, stored.size) == (digest, len(block) * blocks)
    assert place.objects() == [stored.uri]
    assert peak < 5 * parts.PART
    if compressed:
        assert len(place.body(stored.uri)) > 4 * parts.PART
    with place.archive.open(stored.uri) as body:
        assert hashlib.sha256(body.read()).hexdigest() == digest
    assert not place.archive.put((block for _ in range(blocks)), compressed=compressed).new
    assert place.objects() == [stored.uri]


def test_a_removal_gives_way_to_who_needs_the_object_meanwhile(place: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = place.archive.put(b"needed again")
    place.grow_old(stored.uri)
    looked, look = threading.Event(), place.archive._head
    other = Aging(LANDING)
    other.old = place.archive.old
    needed: list[bool] = []
    beside = threading.Thread(target=lambda: needed.append(other.touch(stored.uri)))

    def slow(key: str) -> Head | None:
        found = look(key)
        if not looked.is_set():
            looked.set()
            beside.start()
            while (now := look(key)) is not None and now.metadata in place.archive.old:
                pass
        return found

    monkeypatch.setattr(place.archive, "_head", slow)
    assert place.archive.remove(stored.uri) is None
    beside.join()
    assert needed == [True]
    assert place.objects() == [stored.uri]


def test_who_comes_too_late_for_a_removal_is_told(place: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is looked at for the last time, then touched, then removed: whoever touched it must learn of it."""
    stored = place.archive.put(b"going")
    place.grow_old(stored.uri)
    other = Aging(LANDING)
    other.old = place.archive.old
    needed: list[bool] = []
    beside = threading.Thread(target=lambda: needed.append(other.touch(stored.uri)))
    looks, look = [0], place.archive._head

    def slow(key: str) -> Head | None:
        found = look(key)
        looks[0] += 1
        if looks[0] == 2:
            beside.start()
            while (now := look(key)) is not None and now.metadata in place.archive.old:
                pass
        return found

    monkeypatch.setattr(place.archive, "_head", slow)
    assert place.archive.remove(stored.uri)
    beside.join()
    assert needed == [False]
    assert place.objects() == []


def test_the_mark_of_a_removal_that_was_killed_stops_nobody(place: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.ingest.landing import bucket

    stored = place.archive.put(b"still here")
    place.overwrite(stored.uri + ".removed", b"")
    place.grow_old(stored.uri)
    monkeypatch.setattr(bucket, "LEASE", -1.0)
    assert place.archive.touch(stored.uri)
    assert place.objects() == [stored.uri]


def test_a_broken_stream_is_begun_again_where_it_broke(place: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.response import StreamingBody

    data = os.urandom(3_000_000)
    stored = place.archive.put(data, compressed=True)
    read, count = StreamingBody.read, [0]

    def breaking(self: StreamingBody, amt: int | None = None) -> bytes:
        count[0] += 1
        if count[0] in {2, 5}:
            raise ConnectionResetError(104, "Connection reset by peer")
        return read(self, amt)

    monkeypatch.setattr(StreamingBody, "read", breaking)
    with place.archive.open(stored.uri) as body:
        assert body.read() == data
    assert count[0] > 5


def test_a_refusal_names_bucket_key_action_and_right(place: Bucket, aws: Moto) -> None:
    with pytest.raises(LandingError, match=r"s3://absent/raw/objects/.*PutObject|no such bucket"):
        BucketArchive(At("absent", "raw/")).put(b"x")
    from botocore.exceptions import ClientError

    from dagster_project.ingest.s3.refusal import told

    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")
    said = r"^s3://b/k: access denied. PutObject needs the right s3:PutObject"
    with pytest.raises(LandingError, match=said), told("PutObject", "s3://b/k", LandingError):
        raise denied


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://", "no bucket's name"),
        ("s3://Upper/x", "no bucket's name"),
        ("s3://bucket//x", "empty part|without a slash"),
        ("s3://bucket/a/../b", "empty part"),
        ("s3://bucket/a\tb", "can't be seen"),
        ("http://bucket/a", "no s3"),
    ],
)
def test_a_url_that_is_no_place_is_refused(url: str, why: str) -> None:
    from dagster_project.ingest.errors import CardError

    with pytest.raises(CardError, match=why):
        place_of(url)
