"""What the landing log's rows look like in Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

LANE = "~"
"""What the partition of an open batch begins with that holds a share of a bucket's backlog; sealed, it has none."""


@dataclass(slots=True)
class LandedObject:
    """One request's answer or one file: a row of ``bindery.landed``."""

    source: str
    stream: str
    fingerprint: str
    origin: str
    uri: str | None = None
    sha256: str | None = None
    size: int | None = None
    media_type: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    position: int | None = None
    batch_id: int | None = None
    landing_id: int | None = None
    status: str = "landed"
    attempt: int = 1
    observed_at: datetime | None = None


@dataclass(slots=True)
class Batch:
    """What one fetch of one stream landed: a row of ``bindery.batches``."""

    batch_id: int
    source: str
    stream: str
    partition: str
    status: str
    fingerprint: str
    cursor_start: Any = None
    cursor_proposed: Any = None
    position: int = 0
    resume: dict[str, Any] | None = None
    full_refresh: bool = False
    stats: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    """Why the last attempt stopped; None where none failed (a killed one leaves no word)."""
    purged_at: datetime | None = None
    """Since when its bytes may be gone."""
    resumed: bool = False
    """Whether an earlier, interrupted fetch opened it."""
