"""What a load did, in numbers: for people, for the load log, for an orchestrator's metadata."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dagster_project.ingest.errors import UnreadableObjectsError

_SHOWN = 5
"""Unreadable objects that an error names."""
_SUMS = (
    *("rows_read", "inserted", "updated", "unchanged", "deleted", "duplicates", "conflicts", "quarantined", "bytes"),
    *("objects", "batches", "seconds", "emptied", "replaced_nul", "left_out", "superseded", "resolved"),
)


@dataclass(slots=True)
class StreamLoad:
    """What a load, or several in succession, did with one stream."""

    table: str
    """``raw.<source>__<stream>``."""
    rows_read: int = 0
    """Rows of the landed objects, refused ones included."""
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    """Rows that were removed: replaced, or no longer given by a complete fetch."""
    duplicates: int = 0
    """Rows that gave way to another of the same key within the load."""
    conflicts: int = 0
    """Keys whose rows within the load had different values, settled by the tie-break."""
    quarantined: int = 0
    bytes: int = 0
    """Landed bytes read, before any compression of ours."""
    objects: int = 0
    batches: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds in ``read`` (open, decompress, parse), ``prove``, ``copy`` (waiting for Postgres), ``merge``."""
    new_columns: list[str] = field(default_factory=list)
    widened: dict[str, str] = field(default_factory=dict)
    """Column -> what happened to its type, as ``bigint -> text``."""
    dropped: list[str] = field(default_factory=list)
    """Fields left out because the contract says so."""
    codes: dict[str, int] = field(default_factory=dict)
    """Quarantined rows by code."""
    emptied: int = 0
    """Empty texts that became NULL in columns whose type has no empty value."""
    replaced_nul: int = 0
    left_out: int = 0
    """Rows that the card's recipe left out; not among those read."""
    superseded: int = 0
    """Batches not read because a newer one holds everything."""
    resolved: int = 0
    """Rows that left the quarantine."""
    table_rows: int | None = None
    """Rows of the table afterwards, where the card's bounds asked for them."""
    unreadable: list[str] = field(default_factory=list)
    """Objects that couldn't be read and were set aside: why, each."""
    warnings: list[str] = field(default_factory=list)
    parts: list[StreamLoad] = field(default_factory=list)
    """Where this is the sum of several loads: each of them."""

    def add(self, later: StreamLoad) -> None:
        """Take in what a later load did with the stream."""
        if not self.parts:
            self.parts = [replace(self, parts=[])]
        self.parts.append(later)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.stages = {stage: self.stages.get(stage, 0.0) + seconds for stage, seconds in later.stages.items()}
        self.codes = {
            code: self.codes.get(code, 0) + later.codes.get(code, 0) for code in {**self.codes, **later.codes}
        }
        before = {column: how.split(" -> ")[0] for column, how in self.widened.items()}
        self.widened = self.widened | {
            column: f"{before.get(column, how.split(' -> ')[0])} -> {how.split(' -> ')[1]}"
            for column, how in later.widened.items()
        }
        self.new_columns = [*self.new_columns, *later.new_columns]
        self.dropped = list(dict.fromkeys([*self.dropped, *later.dropped]))
        self.unreadable = [*self.unreadable, *later.unreadable]
        self.warnings = list(dict.fromkeys([*self.warnings, *later.warnings]))
        self.table_rows = later.table_rows

    @property
    def rows_per_second(self) -> float:
        """Rows read per second of the stream's load."""
        return self.rows_read / self.seconds if self.seconds > 0 else 0.0

    def detail(self) -> dict[str, Any]:
        """Give what the load log keeps beside its columns: only what happened."""
        values: dict[str, Any] = {
            "conflicts": self.conflicts,
            "objects": self.objects,
            "batches": self.batches,
            "stages": {stage: round(seconds, 3) for stage, seconds in self.stages.items()},
            "new_columns": self.new_columns,
            "widened": self.widened,
            "dropped": self.dropped,
            "codes": self.codes,
            "emptied": self.emptied,
            "replaced_nul": self.replaced_nul,
            "left_out": self.left_out,
            "superseded": self.superseded,
            "resolved": self.resolved,
            "table_rows": self.table_rows,
            "unreadable": self.unreadable,
            "warnings": self.warnings,
        }
        return {name: value for name, value in values.items() if value}

    def to_metadata(self) -> dict[str, Any]:
        """Give everything as plain values, for an orchestrator or as JSON."""
        return {
            "table": self.table,
            "rows_read": self.rows_read,
            "inserted": self.inserted,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "duplicates": self.duplicates,
            "quarantined": self.quarantined,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second),
            **self.detail(),
        }


@dataclass(slots=True)
class LoadReport:
    """What one load did, or several where much was waiting."""

    load_id: int | None
    """The newest; None where there was nothing to load."""
    streams: dict[str, StreamLoad] = field(default_factory=dict)
    seconds: float = 0.0
    load_ids: list[int] = field(default_factory=list)
    """All of them, in order."""

    def add(self, later: LoadReport) -> None:
        """Take in what a later load did."""
        if later.load_id is not None:
            self.load_id = later.load_id
            self.load_ids.append(later.load_id)
        self.seconds += later.seconds
        for name, stream in later.streams.items():
            if name in self.streams:
                self.streams[name].add(stream)
            else:
                self.streams[name] = stream

    def refuse_unreadable(self, source: str) -> None:
        """Say, once everything else is done and shown, that objects couldn't be read.

        Raises:
            UnreadableObjectsError: There are such objects; the others are loaded.
        """
        found = [why for stream in self.streams.values() for why in stream.unreadable]
        if found:
            more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise UnreadableObjectsError(
                f"{source}: {len(found)} landed objects can't be read and were set aside (see them with `bindery "
                f"quarantine {source}`); what else there was is loaded:\n  "
                + "\n  ".join(found[:_SHOWN])
                + more
                + f"\nA corrected one loads by itself; after a change of the card: bindery replay {source}"
            )

    def to_metadata(self) -> dict[str, Any]:
        """Give everything as plain values."""
        return {
            "load_id": self.load_id,
            "load_ids": self.load_ids,
            "seconds": round(self.seconds, 3),
            "streams": {name: stream.to_metadata() for name, stream in self.streams.items()},
        }
