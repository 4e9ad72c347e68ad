"""A bucket's objects: which ones a stream wants, which names are refused, and what tells one observation from another.

Used by the fetch, by the listing that finds what notifications lost, and by the reading of notifications, so that all
of them see the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dagster_project.ingest.errors import SourceError, TransientSourceError
from dagster_project.ingest.fetch.folder import UNFINISHED, Passed, matcher, visible
from dagster_project.ingest.s3.client import client
from dagster_project.ingest.s3.refusal import told

if TYPE_CHECKING:
    from dagster_project.ingest.landing.model import LandedObject
    from dagster_project.ingest.s3.place import Place

_SPECIAL = "*?["


@dataclass(frozen=True, slots=True)
class Upload:
    """One observation of one object."""

    place: Place
    origin: str
    """Its key below the place."""
    size: int
    etag: str
    modified: datetime | None = None
    version: str | None = None
    sequencer: str | None = None
    """Of the notification: orders what happened to one key."""
    happened: datetime | None = None
    """When the notification says it was put."""

    @property
    def key(self) -> str:
        """Its whole key."""
        return self.place.key(self.origin)

    @property
    def fingerprint(self) -> str:
        """Tell this observation from any other: bucket, key, and version or ETag."""
        parts = ("s3", self.place.bucket, self.key, self.version or self.etag)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def meta(self) -> dict[str, Any]:
        """What is kept with its row in the landing log."""
        found = {
            "bucket": self.place.bucket,
            "key": self.key,
            "etag": self.etag,
            "version": self.version,
            "size": self.size,
            "modified_at": self.modified.astimezone(UTC).isoformat() if self.modified else None,
            "sequencer": self.sequencer,
            "happened_at": self.happened.astimezone(UTC).isoformat() if self.happened else None,
        }
        return {name: value for name, value in found.items() if value is not None}


def upload_of(place: Place, row: LandedObject) -> Upload:
    """Read an observation back from its row."""
    meta = row.meta
    return Upload(
        place,
        row.origin,
        int(meta.get("size") or 0),
        str(meta.get("etag") or ""),
        datetime.fromisoformat(meta["modified_at"]) if meta.get("modified_at") else None,
        meta.get("version"),
        meta.get("sequencer"),
    )


def origin_of(place: Place, key: str) -> str | Passed | None:
    """Give what a key is called below a place: a name, a refusal, or None for what isn't there or is no file."""
    if not key.startswith(place.prefix) or key.endswith("/") or key == place.prefix:
        return None  # elsewhere; or what consoles make so that a folder is seen
    origin = key[len(place.prefix) :]
    parts = origin.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return Passed(visible(origin), "its key has an empty part, `.` or `..`: put it under another")
    if not origin.isprintable():
        return Passed(visible(origin), "its key has characters that can't be seen: put it under another")
    if any(part.startswith((".", "~$")) for part in parts) or origin.lower().endswith(UNFINISHED):
        return None
    return origin


def wants(patterns: Iterable[str], origin: str) -> bool:
    """Tell whether one of a stream's patterns means an object."""
    return any(matcher(pattern).fullmatch(origin) for pattern in patterns)


def list_uploads(
    place: Place, patterns: Iterable[str], passed: list[Passed] | None = None, after: str = ""
) -> Iterator[Upload]:
    """List the objects that match, in the order of their keys, a thousand in each request.

    Args:
        place: Bucket and prefix.
        patterns: Of the stream.
        passed: Gets what matches and isn't given.
        after: Whole key behind which the list begins.

    Raises:
        SourceError: The bucket can't be listed.
    """
    patterns = list(patterns)
    passed = passed if passed is not None else []
    narrowed = place.key(_common(patterns))
    lister = client("s3").get_paginator("list_objects_v2")
    pages = lister.paginate(Bucket=place.bucket, Prefix=narrowed, StartAfter=after)
    with told("ListObjectsV2", str(place), SourceError, TransientSourceError):
        for page in pages:
            for each in page.get("Contents", []):
                origin = origin_of(place, each["Key"])
                if isinstance(origin, Passed):
                    if wants(patterns, each["Key"][len(place.prefix) :]):
                        passed.append(origin)
                elif origin is not None and wants(patterns, origin):
                    yield Upload(place, origin, int(each["Size"]), each["ETag"].strip('"'), each["LastModified"])


def _common(patterns: list[str]) -> str:
    """Give what every match begins with, so that nothing else is listed."""
    plain = [
        pattern[: min((at for at in map(pattern.find, _SPECIAL) if at >= 0), default=None)] for pattern in patterns
    ]
    first, last = min(plain), max(plain)
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]
