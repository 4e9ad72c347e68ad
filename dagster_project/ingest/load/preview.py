"""Rows as a load would type them, as Python values: for looking before loading. No database is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dagster_project.ingest.load.blocks import blocks
from dagster_project.ingest.load.columns import Columns
from dagster_project.ingest.load.proof import prove, without_words
from dagster_project.ingest.load.schema import Table
from dagster_project.ingest.load.types import UNKNOWN, infer, join

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import StreamCard
    from dagster_project.ingest.chunk import Chunk
    from dagster_project.ingest.landing.model import LandedObject
    from dagster_project.ingest.load.blocks import Block
    from dagster_project.ingest.load.columns import ColumnState

_PYTHON: Final[dict[str, Callable[[str], Any]]] = {
    "bigint": int,
    "numeric": Decimal,
    "double precision": float,
    "boolean": lambda text: text == "true",
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    "jsonb": msgspec.json.decode,
}


def typed_rows(card: StreamCard, chunks: Iterable[tuple[LandedObject, Chunk]], limit: int) -> list[dict[str, Any]]:
    """Give the first rows, typed by what all the given chunks show, under the names of their columns."""
    columns = Columns(card, Table(card.name))
    whole = list(blocks(chunks, card.renames))
    for block in whole:
        for field, column in block.columns.items():
            state = columns.resolve(field)
            state.seen = True
            if not state.declared:
                values = without_words(column.values, column.kind, list(state.words))
                state.data_type = join(state.data_type, infer(values, column.kind))
    rows: list[dict[str, Any]] = []
    for block in whole:
        shown = [(columns.resolve(field), field) for field in block.columns]
        values = [_values(state, block, field) for state, field in shown]
        names = [state.name for state, _ in shown]
        rows += [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        if len(rows) >= limit:
            break
    return rows[:limit]


def _values(state: ColumnState, block: Block, field: str) -> list[Any]:
    column = block.columns[field]
    texts = without_words(column.values, column.kind, list(state.words))
    proven = prove(texts, column.kind, state.data_type, state.declared_rules)
    good = [True] * block.rows if proven.good is None else proven.good.to_pylist()
    values: list[Any] = []
    for fine, text, original in zip(good, proven.values.to_pylist(), texts.to_pylist(), strict=True):
        values.append(_value(text, state.data_type) if fine else original)
    return values


def _value(text: str | None, data_type: str) -> Any:
    if text is None or data_type in ("text", UNKNOWN):
        return text
    try:
        return _PYTHON[data_type](text)
    except (KeyError, ValueError):
        return text  # a zone's name behind a timestamp, for instance: Postgres reads it
