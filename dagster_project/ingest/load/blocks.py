"""Blocks: chunks of many small objects put together, so that the price of proof and COPY is paid once.

A page of an API holds 32 rows; a block holds thousands, and still knows of each row where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Chunk, Column, Kind, Refused
from dagster_project.ingest.load.proof import in_kind, join_kind

if TYPE_CHECKING:
    from dagster_project.ingest.landing.model import LandedObject

ENOUGH = 16_384
"""Rows from which a block is worth its price."""
BYTES = 5 * 1024 * 1024
"""Text from which it is, however few the rows: three blocks are in memory at a time, being read, proven and copied."""
OBJECTS = 2_000
"""Objects of a block at most: bounds how often long runs of empty pages are looked at."""


@dataclass(slots=True)
class Origin:
    """Rows of a block that come from one object, in succession."""

    landing_id: int | None
    name: str
    rows: int
    first_ordinal: int
    ordinals: pa.Array | None


@dataclass(slots=True)
class Block:
    """Rows on their way into a table."""

    columns: dict[str, Column]
    rows: int
    origins: list[Origin]
    refused: list[tuple[Origin, Refused]] = field(default_factory=list)
    replaced_nul: int = 0
    left_out: int = 0
    renamed_twice: int = 0
    """Rows in which both a former and today's name of a field had a value."""

    def locate(self, row: int) -> tuple[Origin, int]:
        """Give the object that a row came from, and its number there."""
        start = 0
        for origin in self.origins:
            if row < start + origin.rows:
                inside = row - start
                ordinal = origin.first_ordinal + inside if origin.ordinals is None else origin.ordinals[inside].as_py()
                return origin, int(ordinal)
            start += origin.rows
        raise IndexError(row)


def blocks(chunks: Iterable[tuple[LandedObject, Chunk]], renames: dict[str, str]) -> Iterator[Block]:
    """Put chunks together to blocks, in order; a chunk that is large already is a block by itself."""
    waiting = _Waiting()
    for landed, chunk in chunks:
        twice = _rename(chunk, renames) if renames else 0
        if waiting.rows and not waiting.takes(chunk):
            yield waiting.block()
            waiting = _Waiting()
        waiting.add(landed, chunk, twice)
        if waiting.full:
            yield waiting.block()
            waiting = _Waiting()
    if waiting.origins:
        yield waiting.block()


def _rename(chunk: Chunk, renames: dict[str, str]) -> int:
    """Give fields their names of today; where both names have values, today's goes first."""
    both = 0
    columns: dict[str, Column] = {}
    for name, column in chunk.columns.items():
        today = renames.get(name, name)
        other = columns.get(today)
        if other is None:
            columns[today] = column
            continue
        newer, older = (column, other) if name == today else (other, column)
        kind = join_kind(newer.kind, older.kind) or Kind.STRING
        left, right = in_kind(newer.values, newer.kind, kind), in_kind(older.values, older.kind, kind)
        both += pc.sum(pc.and_(left.is_valid(), right.is_valid())).as_py() or 0
        columns[today] = Column(pc.coalesce(left, right), kind)
    chunk.columns = columns
    return both


class _Waiting:
    """Chunks that are going to be one block."""

    def __init__(self) -> None:
        self.rows = 0
        self.size = 0
        self.origins: list[Origin] = []
        self._refused: list[tuple[Origin, Refused]] = []
        self._kinds: dict[str, Kind] = {}
        self._parts: list[Chunk] = []
        self._replaced = 0
        self._left_out = 0
        self._twice = 0

    @property
    def full(self) -> bool:
        return (
            self.rows >= ENOUGH
            or self.size >= BYTES
            or len(self.origins) >= OBJECTS
            or sum(len(refused.line or "") + 100 for _, refused in self._refused) > BYTES
        )

    def takes(self, chunk: Chunk) -> bool:
        """Tell whether the chunk's columns go together with those that wait."""
        if chunk.rows >= ENOUGH:
            return False
        kinds = self._kinds
        return all(name not in kinds or join_kind(kinds[name], c.kind) is not None for name, c in chunk.columns.items())

    def add(self, landed: LandedObject, chunk: Chunk, twice: int) -> None:
        origin = Origin(landed.landing_id, landed.origin, chunk.rows, chunk.first_ordinal, chunk.ordinals)
        self.origins.append(origin)
        self._refused += [(origin, refused) for refused in chunk.refused]
        self._replaced += chunk.replaced_nul
        self._left_out += chunk.left_out
        self._twice += twice
        for name, column in chunk.columns.items():
            known = self._kinds.get(name, Kind.NULL)
            self._kinds[name] = join_kind(known, column.kind) or column.kind
        if chunk.rows:
            self._parts.append(chunk)
        self.rows += chunk.rows
        self.size += chunk.text_bytes

    def block(self) -> Block:
        columns = {name: Column(self._values(name, kind), kind) for name, kind in self._kinds.items()}
        return Block(columns, self.rows, self.origins, self._refused, self._replaced, self._left_out, self._twice)

    def _values(self, name: str, kind: Kind) -> pa.Array:
        parts = []
        for chunk in self._parts:
            column = chunk.columns.get(name)
            if column is None:
                parts.append(pa.nulls(chunk.rows, pa.string()))
            else:
                parts.append(in_kind(column.values, column.kind, kind))
        if len(parts) == 1:
            return parts[0]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())
