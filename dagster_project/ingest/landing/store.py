"""Which archive a landing root means: a folder, or a bucket. Both keep bytes under the same names.

Whoever puts or reads bytes takes an ``AnyArchive``; only this module knows which kinds there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Protocol

from dagster_project.ingest.landing.archive import Archive, Readable, Stored
from dagster_project.ingest.s3.place import is_bucket, place_of


class AnyArchive(Protocol):
    """A place of content-addressed objects."""

    def put(self, data: bytes | Readable | Iterable[bytes], *, compressed: bool = False) -> Stored:
        """Keep bytes for good; return when they would survive a power cut."""
        ...

    def open(self, uri: str, sha256: str | None = None) -> BinaryIO:
        """Give the bytes as they were received, proving them on the way."""
        ...

    def touch(self, uri: str) -> bool:
        """Tell whether an object is there, and keep it from being removed while somebody writes that it is needed."""
        ...

    def remove(self, uri: str, grace: float = ...) -> int | None:
        """Remove an object that nothing refers to any more; None where it stays because it is young."""
        ...


def archive_at(root: str) -> AnyArchive:
    """Give the archive of a landing root: a folder's path, or ``s3://bucket/prefix``.

    Raises:
        LandingError: It is another kind of URL.
        CardError: It is no bucket's URL.
    """
    if is_bucket(root):
        from dagster_project.ingest.landing.bucket import BucketArchive

        return BucketArchive(place_of(root))
    return Archive(root)
