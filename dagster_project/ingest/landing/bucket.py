"""The archive of raw bytes in a bucket: the same names and promises as the folder's (``archive``).

An object is written under its name in one request, or, where it is large, in parts under a name in ``tmp/`` and then
copied by S3: a name says what it must contain, and that is known only at the end. Each object says in its metadata what
was received, so that one that was overwritten is told from a good one without being read.

Removal and use at once: who removes puts a mark beside the object, looks again whether it became young, and removes it
once, never repeated. Who needs an old object makes it young and looks for the mark. S3 shows every write to whoever
looks after it, so that at least one of the two sees the other.
"""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from dagster_project.ingest.errors import LandingError, TransientLandingError
from dagster_project.ingest.landing.archive import (
    LEVEL,
    STALE,
    Readable,
    Stored,
    object_blocks,
    object_uri,
)
from dagster_project.ingest.landing.bucket_reader import BucketFile, reference_of
from dagster_project.ingest.landing.reader import VerifyingReader
from dagster_project.ingest.s3.client import client
from dagster_project.ingest.s3.copy import Head, copy, head
from dagster_project.ingest.s3.parts import Parts
from dagster_project.ingest.s3.refusal import CHANGED, CONFLICT, GONE, code_of, told

if TYPE_CHECKING:
    from dagster_project.ingest.s3.place import Place

LEASE: Final = 180.0
"""Seconds after which a removal that left its mark is over, whatever became of it."""
DECIDED: Final = 60.0
"""Seconds within which a removal goes on after its mark; later it gives up."""
MINE: Final = STALE / 2
"""Seconds for which an object that this archive wrote needs no look."""
_NO_CONDITIONS = frozenset({"NotImplemented", "501"})


class BucketArchive:
    """A bucket's objects below a prefix. Safe for threads, and for everybody who shares the bucket."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._own: dict[str, float] = {}
        self._lock = threading.Lock()
        self._swept = False

    def put(self, data: bytes | Readable | Iterable[bytes], *, compressed: bool = False) -> Stored:
        """Keep bytes for good; return when the bucket has them.

        Args:
            data: The bytes, a readable stream of them, or an iterable of blocks. A stream is read to its end, in
                memory that doesn't grow with it.
            compressed: Whether they are compressed already (``is_compressed``), so that they are kept as they are.

        Raises:
            LandingError: The bucket can't be written.
            SourceError: The stream can't be read.
        """
        if isinstance(data, bytes):
            return self._put_whole(hashlib.sha256(data).hexdigest(), len(data), _squeezed(data, compressed), compressed)
        digest = hashlib.sha256()
        size = 0
        squeeze = None if compressed else _compressor()
        with Parts(self.place.bucket, self.place.key(f"tmp/{secrets.token_hex(16)}"), self._told) as parts:
            for block in object_blocks(data):
                digest.update(block)
                size += len(block)
                parts.write(block if squeeze is None else squeeze.compress(block))
            if squeeze is not None:
                parts.write(squeeze.flush())
            if parts.empty:
                return self._put_whole(digest.hexdigest(), size, parts.held(), compressed)
            self._sweep()
            parts.finish()
            return self._adopt(parts.key, parts.size, digest.hexdigest(), size, compressed)

    def copy_from(self, source: Place, key: str, found: Head) -> Stored | None:
        """Keep an object of a bucket without its bytes passing through here; S3 hashes them as it copies.

        Args:
            source: The other bucket.
            key: Of the object there.
            found: What it was when it was looked at: it must still be that.

        Returns:
            What is kept; None where S3 doesn't tell the hash, or the object is too large for one copy: read it, then.

        Raises:
            TransientLandingError: It can't be copied.
            ObjectChangedError: It isn't what it was.
        """
        from dagster_project.ingest.s3.copy import copy_hashed

        self._sweep()
        temporary = self.place.key(f"tmp/{secrets.token_hex(16)}")
        # Whatever is refused here is a matter of rights, and no fault of the object's: it is tried again.
        where = f"s3://{source.bucket}/{key} to {self.place.url()}"
        with told("CopyObject", where, TransientLandingError):
            hexdigest = copy_hashed(source.bucket, key, found, self.place.bucket, temporary)
        if hexdigest is None:
            return None
        return self._adopt(temporary, found.size, hexdigest, found.size, compressed=True)

    def open(self, uri: str, sha256: str | None = None) -> BinaryIO:
        """Give the bytes as they were received, proving them on the way.

        The reader is seekable where the object is kept as it is: the first seek reads it into a temporary file and
        proves it. Otherwise it is read once, from start to end.

        Args:
            uri: As ``put`` returned it, or a version of an object in another bucket.
            sha256: What the bytes must hash to; by default what the object's name says.

        Raises:
            LandingError: The object is missing; or, while reading, it isn't what it was.
        """
        if (version := reference_of(uri)) is not None:
            raw = BucketFile(version.bucket, version.key, version.version)
            return io.BufferedReader(
                raw if sha256 is None else VerifyingReader(cast(BinaryIO, raw), uri, sha256, compressed=False), 1 << 18
            )
        key = self._key(uri)
        parts = uri.removesuffix(".zst").split("/")
        where = self.place.url(uri)
        raw = BucketFile(self.place.bucket, key, None)
        reader = VerifyingReader(
            cast(BinaryIO, raw), where, sha256 or parts[-2] + parts[-1], compressed=uri.endswith(".zst")
        )
        return io.BufferedReader(reader, 1 << 18)

    def touch(self, uri: str) -> bool:
        """Tell whether an object is there, and keep it from being removed while somebody writes that it is needed."""
        if (version := reference_of(uri)) is not None:
            return head(version.bucket, version.key, version.version) is not None
        with self._lock:
            if time.monotonic() - self._own.get(uri, float("-inf")) < MINE:
                return True
        return self._kept(uri) is not None

    def remove(self, uri: str, grace: float = 2 * STALE) -> int | None:
        """Remove an object that nothing refers to any more.

        Args:
            uri: As ``put`` returned it. A version in another bucket isn't ours to remove.
            grace: Seconds since it was last put or touched within which somebody may be about to refer to it.

        Returns:
            The bytes that it took, 0 where it is gone already; None where it stays because it is young.

        Raises:
            LandingError: The bucket can't be written.
        """
        if reference_of(uri) is not None:
            return 0
        key = self._key(uri)
        mark = key + ".removed"
        found = self._head(key)
        if found is not None and self._age(found) < grace:
            return None
        if found is None:
            return 0
        began = time.monotonic()
        with self._told("PutObject", mark):
            client("s3").put_object(Bucket=self.place.bucket, Key=mark, Body=b"")
        found = self._head(key)
        size: int | None = 0
        if found is not None and (self._age(found) < grace or time.monotonic() - began > DECIDED):
            size = None
        elif found is not None:
            with self._told("DeleteObject", key):
                # Once: a repeated request might remove what somebody put between the two.
                client("s3", retries=False).delete_object(Bucket=self.place.bucket, Key=key)
            size = found.size
            with self._lock:
                self._own.pop(uri, None)
        self._delete(mark)
        return size

    # -- writing

    def _put_whole(self, digest: str, size: int, body: bytes, compressed: bool) -> Stored:
        uri = object_uri(digest, "" if compressed else ".zst")
        for _ in range(5):
            if found := self._existing(digest, size):
                return found
            if self._create(uri, body, {"sha256": digest, "size": str(size), "stored": str(len(body))}):
                return self._mine(Stored(uri, digest, size))
        raise TransientLandingError(f"{self.place.url(uri)}: others write and remove it all the time")

    def _create(self, uri: str, body: bytes, metadata: dict[str, str]) -> bool:
        """Write an object that isn't there; tell whether it was this call that wrote it."""
        from botocore.exceptions import ClientError

        key = self._key(uri)
        wanted: dict[str, Any] = {
            "Bucket": self.place.bucket,
            "Key": key,
            "Body": body,
            "Metadata": metadata,
            "ChecksumSHA256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        }
        with self._told("PutObject", key):
            try:
                client("s3").put_object(**wanted, IfNoneMatch="*")
            except ClientError as error:
                if code_of(error) in CHANGED | CONFLICT:
                    return False
                if code_of(error) not in _NO_CONDITIONS:
                    raise
                client("s3").put_object(**wanted)
        return True

    def _adopt(self, temporary: str, stored: int, digest: str, size: int, compressed: bool) -> Stored:
        """Give what was written under a temporary name its own."""
        found = self._existing(digest, size)
        if found is None:
            uri = object_uri(digest, "" if compressed else ".zst")
            metadata = {"sha256": digest, "size": str(size), "stored": str(stored)}
            with self._told("CopyObject", self._key(uri)):
                copy(self.place.bucket, temporary, stored, self.place.bucket, self._key(uri), metadata)
            found = self._mine(Stored(uri, digest, size))
        self._delete(temporary)
        return found

    def _existing(self, digest: str, size: int) -> Stored | None:
        """Find bytes that are kept already; one that was overwritten is no reason not to write a good one."""
        for suffix in (".zst", ""):
            uri = object_uri(digest, suffix)
            found = self._head(self._key(uri))
            if found is None:
                continue
            said = (found.metadata.get("sha256"), found.metadata.get("size"), found.metadata.get("stored"))
            if said != (digest, str(size), str(found.size)):
                with self._told("DeleteObject", self._key(uri)):
                    client("s3", retries=False).delete_object(Bucket=self.place.bucket, Key=self._key(uri))
                continue
            if self._kept(uri, found) is not None:
                return Stored(uri, digest, size, new=False)
        return None

    def _mine(self, stored: Stored) -> Stored:
        with self._lock:
            if len(self._own) > 10_000:
                self._own.clear()
            self._own[stored.uri] = time.monotonic()
        return stored

    # -- young and old

    def _kept(self, uri: str, found: Head | None = None) -> Head | None:
        """Make an object young where it is old, and wait for the end of a removal that may not have seen it."""
        key = self._key(uri)
        found = found or self._head(key)
        if found is None:
            return None
        age = self._age(found)
        if LEASE < age <= STALE:
            return found
        if age > STALE:
            from botocore.exceptions import ClientError

            metadata = {**found.metadata, "touched": secrets.token_hex(4)}
            with self._told("CopyObject", key):
                try:
                    copy(self.place.bucket, key, found.size, self.place.bucket, key, metadata)
                except ClientError as error:
                    if code_of(error) in GONE:
                        return None
                    raise
        pause = 0.05
        while (mark := self._head(key + ".removed")) is not None:
            if self._age(mark) > LEASE:
                self._delete(key + ".removed")
                break
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
        return self._head(key)

    def _age(self, found: Head) -> float:
        return found.age

    def _head(self, key: str) -> Head | None:
        with self._told("HeadObject", key):
            return head(self.place.bucket, key)

    def _delete(self, key: str) -> None:
        with self._told("DeleteObject", key):
            client("s3").delete_object(Bucket=self.place.bucket, Key=key)

    def _sweep(self) -> None:
        """Remove what killed processes left in ``tmp/``, once; a bucket that may not be listed keeps it."""
        if self._swept:
            return
        self._swept = True
        from botocore.exceptions import BotoCoreError, ClientError

        from dagster_project.ingest.s3.copy import leftovers

        try:
            for key in leftovers(self.place.bucket, self.place.key("tmp/"), STALE * 24):
                self._delete(key)
        except (BotoCoreError, ClientError, LandingError):
            return

    def _key(self, uri: str) -> str:
        if uri.startswith("/") or ".." in uri.split("/"):
            raise LandingError(f"landing object {uri!r} lies outside {self.place}")
        return self.place.key(uri)

    def _told(self, operation: str, key: str) -> Any:
        return told(operation, f"s3://{self.place.bucket}/{key}", LandingError, TransientLandingError)


def _compressor() -> Any:
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL).compressobj()


def _squeezed(data: bytes, compressed: bool) -> bytes:
    import zstandard

    return data if compressed else zstandard.ZstdCompressor(level=LEVEL).compress(data)
