"""Rows as a load would type them, as Python values: for looking before loading. No database is needed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from dagster_project.ingest.load.blocks import blocks
from dagster_project.ingest.load.columns import Columns
from dagster_project.ingest.load.proof import prove, without_words
from dagster_project.ingest.load.quarantine import shortened
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

SOME_ROWS = 2
"""Rows from which on a field without any value is worth a note."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a load would refuse a row."""

    column: str | None
    """The column whose value doesn't fit; None where the row is none at all."""
    message: str


@dataclass(slots=True)
class Look:
    """The first rows of a stream as a load would type them, and what it would say to them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Values that don't fit their column are the texts that they are."""
    types: dict[str, str] = field(default_factory=dict)
    """Column -> type, as far as these rows show it."""
    misfits: dict[int, list[Misfit]] = field(default_factory=dict)
    """Index in ``rows`` -> why the row would be refused."""
    unread: list[str] = field(default_factory=list)
    """What couldn't be read as a row, with its place."""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What may well be right, and is worth a look."""

    @property
    def refused(self) -> int:
        """Rows that would be quarantined."""
        return len(self.misfits) + len(self.unread)


def look_at(
    card: StreamCard,
    chunks: Iterable[tuple[LandedObject, Chunk]],
    limit: int,
    searched: Mapping[str, str] | None = None,
) -> Look:
    """Give the first rows, typed by what all the given chunks show, under the names of their columns.

    Args:
        card: The stream's card.
        chunks: With the fields that the card ignores: it may mean others.
        limit: Most rows to give.
        searched: Field of a page -> the selector that looks for it.
    """
    columns = Columns(card, Table(card.name))
    whole = list(blocks(chunks, card.renames))
    fields = {name for block in whole if block.rows for name in block.columns}
    for block in whole:
        for name in card.ignore:
            block.columns.pop(name, None)
        for name, column in block.columns.items():
            state = columns.resolve(name)
            state.seen = True
            if not state.declared:
                values = without_words(column.values, column.kind, list(state.words))
                state.data_type = join(state.data_type, infer(values, column.kind))
    look = Look(warnings=absent_names(card, fields))
    for block in whole:
        look.unread += [f"{at.name}, row {bad.ordinal or '?'}: {bad.message}" for at, bad in block.refused]
        _add(look, card, columns, block, limit)
        if len(look.rows) >= limit:
            break
    look.notes = _without_value(look, columns, {k: v for k, v in (searched or {}).items() if k not in card.ignore})
    return look


def _without_value(look: Look, columns: Columns, searched: Mapping[str, str]) -> list[str]:
    """Say which fields have a value in none of the rows, with the selector that finds none."""
    if len(look.rows) < SOME_ROWS:
        return []
    return [
        f"`{how}` found no value for {name!r} in any of these {len(look.rows)} rows"
        for name, how in searched.items()
        if all(row.get(columns.resolve(name).name) is None for row in look.rows)
    ]


def absent_names(card: StreamCard, fields: set[str]) -> list[str]:
    """Say which names of the card are in none of the rows; nothing where there are no rows."""
    if not fields:
        return []
    wanted = {
        "primary_key": card.primary_key,
        "newest_by": card.newest_by,
        "columns": card.columns,
        "ignore": card.ignore,
    }
    said = []
    for where, names in wanted.items():
        for name in names:
            if name not in fields:
                so = ": every row would be refused" if where == "primary_key" else ""
                said.append(f"`{where}`: {name!r} is in none of the rows{so}{_meant(name, fields)}")
    if card.cursor is not None and card.cursor.field not in fields and (near := _meant(card.cursor.field, fields)):
        said.append(f"`cursor.field`: {card.cursor.field!r} is in none of the rows{near}")
    return said


def _meant(name: str, fields: set[str]) -> str:
    plain = {each.casefold(): each for each in sorted(fields)}
    near = difflib.get_close_matches(name.casefold(), plain, 1, 0.6)
    return f"; did you mean {plain[near[0]]!r}?" if near else ""


def _add(look: Look, card: StreamCard, columns: Columns, block: Block, limit: int) -> None:
    """Add a block's rows, as far as they are wanted."""
    first, count = len(look.rows), min(block.rows, limit - len(look.rows))
    names: list[str] = []
    shown: list[list[Any]] = []
    missing: dict[str, list[bool]] = {}
    for name in block.columns:
        state = columns.resolve(name)
        values, flags, texts = _values(state, block, name)
        look.types.setdefault(state.name, state.data_type)
        names.append(state.name)
        shown.append(values)
        missing[name] = [text is None for text in texts]
        for row in range(count):
            if not flags[row]:
                said = f"{shortened(values[row])!r} is no {state.data_type}, as {state.name} is declared"
                look.misfits.setdefault(first + row, []).append(Misfit(state.name, said))
    look.rows += [dict(zip(names, row, strict=True)) for row in list(zip(*shown, strict=True))[:count]]
    for name, why in _needed(card).items():
        state = columns.resolve(name)
        there = name in block.columns
        for row in range(count):
            if not there or missing[name][row]:
                said = f"{name!r} {'has no value' if there else 'is not among the fields'}, and the card says `{why}`"
                look.misfits.setdefault(first + row, []).append(Misfit(state.name, said))


def _needed(card: StreamCard) -> dict[str, str]:
    required = {name: "required" for name, rules in card.columns.items() if rules.required}
    return {**required, **dict.fromkeys(card.primary_key, "primary_key")}


def _values(state: ColumnState, block: Block, name: str) -> tuple[list[Any], list[bool], list[str | None]]:
    """Give the values of a column, which of them fit its type, and the texts that Postgres would read."""
    column = block.columns[name]
    texts = without_words(column.values, column.kind, list(state.words))
    proven = prove(texts, column.kind, state.data_type, state.declared_rules)
    good = [True] * block.rows if proven.good is None else proven.good.to_pylist()
    read = proven.values.to_pylist()
    values = [
        _value(text, state.data_type) if fine else original
        for fine, text, original in zip(good, read, texts.to_pylist(), strict=True)
    ]
    # A type that was found is widened by a load until everything fits.
    return values, [fine or not state.declared for fine in good], read


def _value(text: str | None, data_type: str) -> Any:
    if text is None or data_type in ("text", UNKNOWN):
        return text
    try:
        return _PYTHON[data_type](text)
    except (KeyError, ValueError):
        return text  # a zone's name behind a timestamp, for instance: Postgres reads it
