"""Notifications of a bucket, read: S3's own, those that come by way of SNS, and EventBridge's.

What can't be read is refused; what isn't about an object that was put or removed is left out in silence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus


class UnintelligibleError(Exception):
    """A message that nobody here can make anything of."""


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """What happened to one object."""

    kind: str
    """``put`` or ``removed``."""
    bucket: str
    key: str
    size: int = 0
    etag: str = ""
    version: str | None = None
    sequencer: str | None = None
    happened: datetime | None = None


def read_message(body: str) -> list[ObjectEvent]:
    """Read one message's body; none where it is only a test.

    Raises:
        UnintelligibleError: It isn't a notification.
    """
    try:
        said = json.loads(body)
    except ValueError as error:
        raise UnintelligibleError(f"no JSON: {error}") from None
    if not isinstance(said, dict):
        raise UnintelligibleError(f"JSON, but no object: {type(said).__name__}")
    if isinstance(said.get("Message"), str) and "TopicArn" in said:
        return read_message(said["Message"])
    if said.get("Event") == "s3:TestEvent":
        return []
    try:
        if isinstance(said.get("Records"), list):
            return [event for record in said["Records"] if (event := _record(record)) is not None]
        if said.get("source") == "aws.s3":
            event = _bridge(said)
            return [event] if event is not None else []
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnintelligibleError(f"a notification without what it needs: {type(error).__name__} {error}") from None
    raise UnintelligibleError("no notification of S3 or EventBridge: neither Records nor source aws.s3")


def _record(record: dict[str, Any]) -> ObjectEvent | None:
    if record.get("eventSource") not in {"aws:s3", "minio:s3"}:
        raise UnintelligibleError(f"a record of {record.get('eventSource')!r}, not of S3")
    kind = _kind(str(record["eventName"]).removeprefix("s3:"))
    if kind is None:
        return None
    found = record["s3"]["object"]
    return ObjectEvent(
        kind,
        _text(record["s3"]["bucket"]["name"]),
        unquote_plus(_text(found["key"]), errors="strict"),
        int(found.get("size") or 0),
        str(found.get("eTag") or "").strip('"'),
        _version(found.get("versionId")),
        found.get("sequencer"),
        _time(record.get("eventTime")),
    )


def _bridge(said: dict[str, Any]) -> ObjectEvent | None:
    kind = {"Object Created": "put", "Object Deleted": "removed"}.get(str(said.get("detail-type")))
    if kind is None:
        return None
    detail = said["detail"]
    found = detail["object"]
    return ObjectEvent(
        kind,
        _text(detail["bucket"]["name"]),
        _text(found["key"]),  # EventBridge writes keys as they are
        int(found.get("size") or 0),
        str(found.get("etag") or "").strip('"'),
        _version(found.get("version-id")),
        found.get("sequencer"),
        _time(said.get("time")),
    )


def _kind(name: str) -> str | None:
    if name.startswith("ObjectCreated:"):
        return "put"
    if name.startswith(("ObjectRemoved:", "LifecycleExpiration:")):
        return "removed"
    return None  # restores, tags, replication


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a name, got {value!r}")
    return value


def _version(value: Any) -> str | None:
    return None if value in {None, "", "null"} else str(value)


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
