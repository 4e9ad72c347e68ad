"""Records at or below the cursor of a source that can't be asked for newer ones only: they are left out here.

Where the cursor is a request parameter the source does it; what a cursor is, and how its values compare, is fetching's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from dagster_project.ingest.chunk import Chunk, Column
from dagster_project.ingest.fetch.cursor import CursorTrack, key_of
from dagster_project.ingest.parse.shape import row_numbers

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import StreamCard
    from dagster_project.ingest.landing.model import Batch
    from dagster_project.ingest.load.report import StreamLoad


def newer(chunks: Iterable[Chunk], stream: StreamCard, batch: Batch, report: StreamLoad) -> Iterator[Chunk]:
    """Leave out records that an earlier batch has brought, and count them.

    Only of streams that append: a merge takes a record twice without harm, and would miss corrections otherwise.
    """
    cursor = stream.cursor
    begin = None
    if cursor is not None and cursor.param is None and stream.write == "append" and batch.cursor_start is not None:
        begin = key_of(CursorTrack(cursor, batch.cursor_start).begin)
    for chunk in chunks:
        column = None if begin is None or cursor is None else chunk.columns.get(cursor.field)
        if column is None or begin is None:
            yield chunk
            continue
        keys = {text: key_of(text) for text in column.values.unique().to_pylist()}
        old = {text for text, key in keys.items() if key is not None and key[0] == begin[0] and key <= begin}
        if not old:
            yield chunk
            continue
        keep = pa.array([text not in old for text in column.values.to_pylist()], pa.bool_())
        ordinals = row_numbers(chunk).filter(keep)
        report.skipped += chunk.rows - len(ordinals)
        report.rows_read += chunk.rows - len(ordinals)
        chunk.columns = {name: Column(each.values.filter(keep), each.kind) for name, each in chunk.columns.items()}
        chunk.rows, chunk.ordinals = len(ordinals), ordinals
        yield chunk
