"""Texts that Postgres can't keep: NUL characters and lone surrogates, replaced or refused, always counted.

Every parser comes through here with its string arrays; what the texts mean is not looked at.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Chunk, Column, Kind, Refused

REPLACEMENT = "\ufffd"
MAX_LINE = 64 * 1024
"""Longest text kept of a refused row, in characters."""

_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")


def unkeepable(text: str) -> bool:
    """Tell whether a text has characters that Postgres can't keep."""
    return _UNKEEPABLE.search(text) is not None


def replaced(text: str) -> str:
    """Replace the characters that Postgres can't keep by U+FFFD."""
    return _UNKEEPABLE.sub(REPLACEMENT, text)


def cut(text: str) -> str:
    """Cut a refused row's text to what the quarantine keeps, in characters that Postgres can keep."""
    return replaced(text[:MAX_LINE])


def string_array(values: list[Any]) -> tuple[pa.Array, list[int]]:
    """Make an Arrow string array of texts and None.

    Returns:
        The array, with unkeepable characters replaced, and the indexes of the values in which they were.
    """
    bad: list[int] = []
    try:
        array = pa.array(values, pa.string())
        if not has_nul(array):
            return array, bad
    except UnicodeEncodeError:
        pass
    values = list(values)
    for index, value in enumerate(values):
        if value is not None and _UNKEEPABLE.search(value):
            bad.append(index)
            values[index] = replaced(value)
    return pa.array(values, pa.string()), bad


def has_nul(array: pa.Array) -> bool:
    """Tell whether any text of a string array has a NUL character."""
    data = array.buffers()[2]
    if data is None or data.size == 0:
        return False
    offsets = memoryview(array.buffers()[1]).cast("i")
    first, last = offsets[array.offset], offsets[array.offset + len(array)]
    found: int = data.slice(first, last - first).to_pybytes().find(0)
    return found >= 0


def without_nul(columns: dict[str, pa.Array]) -> tuple[dict[str, pa.Array], int, list[int]]:
    """Replace NUL characters in string arrays.

    Returns:
        The arrays, the number of values in which there were any, and the indexes of their rows.
    """
    count = 0
    rows: set[int] = set()
    result = {}
    for name, array in columns.items():
        if has_nul(array):
            mask = pc.match_substring(array, "\x00").fill_null(False)
            indexes = pc.indices_nonzero(mask).to_pylist()
            count += len(indexes)
            rows.update(indexes)
            array = pc.replace_substring(array, "\x00", REPLACEMENT)
        result[name] = array
    return result, count, sorted(rows)


def untyped(columns: dict[str, pa.Array]) -> dict[str, Column]:
    """Wrap string arrays as columns whose types are to be found by shape."""
    return {
        name: Column(array, Kind.NULL if array.null_count == len(array) else Kind.UNTYPED)
        for name, array in columns.items()
    }


def refuse_rows(chunk: Chunk, rows: list[int], code: str, message: str) -> Chunk:
    """Take rows (indexes, ascending) out of a chunk and put them among its refused ones."""
    from dagster_project.ingest.parse.records import as_json_line

    kept_mask = [True] * chunk.rows
    ordinals = (
        chunk.ordinals.to_pylist()
        if chunk.ordinals is not None
        else list(range(chunk.first_ordinal, chunk.first_ordinal + chunk.rows))
    )
    refused = list(chunk.refused)
    for row in rows:
        kept_mask[row] = False
        record = {name: column.values[row].as_py() for name, column in chunk.columns.items()}
        refused.append(Refused(ordinals[row], code, message, cut(as_json_line(record))))
    mask = pa.array(kept_mask)
    return Chunk(
        columns={name: Column(column.values.filter(mask), column.kind) for name, column in chunk.columns.items()},
        rows=chunk.rows - len(rows),
        first_ordinal=chunk.first_ordinal,
        ordinals=pa.array([o for o, keep in zip(ordinals, kept_mask, strict=True) if keep], pa.int64()),
        refused=refused,
        replaced_nul=chunk.replaced_nul,
        text_bytes=chunk.text_bytes,
    )


def text_size(columns: dict[str, Column]) -> int:
    """Sum the text of columns, about, in bytes."""
    return sum(column.values.nbytes for column in columns.values())
