"""``s3://bucket/prefix`` as a value: read, checked, and written again. Nothing is asked over the network."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dagster_project.ingest.errors import CardError

SCHEME = "s3://"
_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, and what keys in it begin with."""

    bucket: str
    prefix: str = ""
    """Empty, or ends with ``/``."""

    def key(self, name: str) -> str:
        """Give the key of a name below this place."""
        return self.prefix + name

    def holds(self, other: Place) -> bool:
        """Tell whether every key below another place is below this one too."""
        return self.bucket == other.bucket and other.prefix.startswith(self.prefix)

    def url(self, name: str = "") -> str:
        """Write it as people do."""
        return f"{SCHEME}{self.bucket}/{self.prefix}{name}"

    def __str__(self) -> str:
        """Write it as people do."""
        return self.url()


def is_bucket(text: str) -> bool:
    """Tell whether a path means a bucket."""
    return text.lower().startswith(SCHEME)


def place_of(text: str) -> Place:
    """Read ``s3://bucket/prefix``.

    Raises:
        CardError: It is no such URL.
    """
    if not is_bucket(text):
        raise CardError(f"{text!r} is no s3:// URL")
    bucket, _, prefix = text[len(SCHEME) :].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise CardError(f"{text!r}: {bucket!r} is no bucket's name; expected s3://bucket/prefix")
    if any(part in {"", ".", ".."} for part in prefix.rstrip("/").split("/")) and prefix.strip("/"):
        raise CardError(f"{text!r}: the prefix has an empty part, `.` or `..`; keys begin without a slash")
    if prefix.startswith("/"):
        raise CardError(f"{text!r}: a key begins without a slash; expected s3://bucket/prefix")
    if not all(character.isprintable() for character in prefix):
        raise CardError(f"{text!r}: the prefix has characters that can't be seen")
    prefix = prefix.rstrip("/")
    return Place(bucket, f"{prefix}/" if prefix else "")
