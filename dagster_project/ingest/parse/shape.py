"""What is done to chunks of any format: leaving out columns, adding facts of the file, stopping after so many rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from dagster_project.ingest.chunk import Chunk, Column, Kind

if TYPE_CHECKING:
    import pyarrow as pa


def without_ignored(chunks: Iterable[Chunk], ignore: list[str]) -> Iterator[Chunk]:
    """Leave out columns."""
    for chunk in chunks:
        if ignore:
            chunk.columns = {name: column for name, column in chunk.columns.items() if name not in ignore}
        yield chunk


def limited(chunks: Iterable[Chunk], limit: int) -> Iterator[Chunk]:
    """Stop after ``limit`` rows."""
    for chunk in chunks:
        if chunk.rows < limit:
            limit -= chunk.rows
            yield chunk
            continue
        if chunk.rows == limit:
            yield chunk
            return
        ordinals = None if chunk.ordinals is None else chunk.ordinals.slice(0, limit)
        last = ordinals[-1].as_py() if ordinals is not None and limit else chunk.first_ordinal + limit - 1
        yield replace(
            chunk,
            columns={
                name: Column(column.values.slice(0, limit), column.kind) for name, column in chunk.columns.items()
            },
            rows=limit,
            ordinals=ordinals,
            refused=[refusal for refusal in chunk.refused if (refusal.ordinal or 0) < last],
        )
        return


def row_numbers(chunk: Chunk) -> pa.Array:
    """Give the ordinals of a chunk's rows."""
    import numpy as np
    import pyarrow as pa

    if chunk.ordinals is not None:
        return chunk.ordinals
    return pa.array(np.arange(chunk.first_ordinal, chunk.first_ordinal + chunk.rows, dtype=np.int64))


def constant(value: str | None, kind: Kind, rows: int) -> Column:
    """Make a column of one value."""
    import pyarrow as pa

    if value is None:
        return Column(pa.nulls(rows, pa.string()), Kind.NULL)
    return Column(pa.repeat(pa.scalar(value, pa.string()), rows), kind)


def distinct_names(header: list[str]) -> list[str]:
    """Make a header's names distinct: ``a``, ``a`` -> ``a``, ``a_2``; an empty third one is ``column_3``."""
    taken = {name for name in header if name.strip()}
    seen: set[str] = set()
    names = []
    for number, name in enumerate(header, 1):
        name = name if name.strip() else f"column_{number}"
        if name in seen:
            suffix = 2
            while f"{name}_{suffix}" in seen or f"{name}_{suffix}" in taken:
                suffix += 1
            name = f"{name}_{suffix}"
        seen.add(name)
        names.append(name)
    return names
