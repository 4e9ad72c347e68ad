"""Pieces of delimited text that were parsed one way or the other, gathered into chunks in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import ROWS, Chunk, Refused
from dagster_project.ingest.parse.text import cut, text_size, untyped

_SMALL = 16 * 1024
"""Rows below which pieces are gathered into one chunk."""
SMALL_BYTES = 2 * 1024 * 1024
"""Bytes below which they are: rows of hundreds of columns are large long before they are many."""


@dataclass(slots=True)
class Piece:
    """Rows that follow each other, and what was refused among them."""

    columns: list[pa.Array]
    rows: int
    ordinals: list[int] | None = None
    refused: list[Refused] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return sum(column.nbytes for column in self.columns)


def gathered(pieces: Iterator[Piece], names: Callable[[], list[str]], first_ordinal: int) -> Iterator[Chunk]:
    """Make chunks of pieces, several small ones together."""
    waiting: list[Piece] = []
    rows = size = 0
    given = False
    next_ordinal = first_ordinal

    def chunk() -> Chunk:
        nonlocal next_ordinal, waiting, rows, size
        refused = [refusal for piece in waiting for refusal in piece.refused]
        ordinals: list[int] | None = None
        first = next_ordinal
        if refused:
            ordinals = []
        for piece in waiting:
            if ordinals is not None:
                ordinals.extend(piece.ordinals or range(next_ordinal, next_ordinal + piece.rows))
            next_ordinal += piece.rows + len(piece.refused)
        full = [piece for piece in waiting if piece.rows]
        if len(full) == 1:
            arrays = full[0].columns
        else:
            arrays = [
                pa.concat_arrays([piece.columns[index] for piece in full]) if full else pa.array([], pa.string())
                for index in range(len(names()))
            ]
        columns = untyped(dict(zip(names(), arrays, strict=True)))
        made = Chunk(
            columns=columns,
            rows=rows,
            first_ordinal=first,
            ordinals=None if ordinals is None else pa.array(ordinals, pa.int64()),
            refused=refused,
            text_bytes=text_size(columns),
        )
        waiting, rows, size = [], 0, 0
        return made

    for piece in pieces:
        if waiting and (piece.rows >= _SMALL or rows + piece.rows > ROWS):
            yield chunk()
            given = True
        waiting.append(piece)
        rows += piece.rows
        size += piece.size
        if rows >= _SMALL or size >= SMALL_BYTES or sum(len(each.refused) for each in waiting) >= 1000:
            yield chunk()
            given = True
    if waiting or (not given and names()):
        yield chunk()


def without_undecodable(pieces: list[Piece], end: int, delimiter: str) -> list[Piece]:
    """Refuse the rows in which bytes couldn't be decoded (``end``: the number after the last row)."""
    result = []
    begin = end - sum(piece.rows + len(piece.refused) for piece in pieces)
    for piece in pieces:
        if not piece.rows:
            result.append(piece)
            continue
        ordinals = piece.ordinals or list(range(begin, begin + piece.rows))
        begin += piece.rows + len(piece.refused)
        bad = pa.array([False] * piece.rows)
        for column in piece.columns:
            bad = pc.or_(bad, pc.match_substring(column, "\ufffd").fill_null(False))
        refused = list(piece.refused)
        for row in pc.indices_nonzero(bad).to_pylist():
            line = delimiter.join(column[row].as_py() or "" for column in piece.columns)
            message = "bytes that are not text in the file's encoding; state `csv.encoding` in the card"
            refused.append(Refused(ordinals[row], "undecodable", message, cut(line)))
        good = pc.invert(bad)
        kept = [ordinal for ordinal, fine in zip(ordinals, good.to_pylist(), strict=True) if fine]
        result.append(Piece([column.filter(good) for column in piece.columns], len(kept), kept, refused))
    return result
