"""What a load shows on the asset's page: counts, rates, columns, a few rows, and how loads went over time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.components.checks import count_rows
from dagster_project.components.facts import rate
from dagster_project.components.sparkline import bar, sparkline
from dagster_project.ingest.cards.base import SourceCard, StreamCard

if TYPE_CHECKING:
    import psycopg

    from dagster_project.ingest.load.report import StreamLoad

PREVIEW_ROWS = 5
PREVIEW_COLUMNS = 8
PREVIEW_WIDTH = 40
HISTORY = 20
"""Loads in the plot."""

COUNTS = ("rows_read", "inserted", "updated", "unchanged", "deleted", "duplicates", "quarantined")


def stream_metadata(
    cursor: psycopg.Cursor[Any], card: SourceCard, stream: StreamCard, loaded: StreamLoad | None, load_id: int | None
) -> dict[str, Any]:
    """Describe a stream after a load; ``loaded`` is None where nothing was there to load."""
    table = card.table(stream.name)
    seconds = loaded.seconds if loaded else 0.0
    metadata: dict[str, Any] = {name: getattr(loaded, name) if loaded else 0 for name in COUNTS}
    metadata |= {
        "bytes": loaded.bytes if loaded else 0,
        "seconds": round(seconds, 3),
        "rows_per_second": rate(metadata["rows_read"], seconds),
        "dagster/row_count": count_rows(cursor, table),
    }
    if load_id is not None and loaded:
        metadata["load_id"] = load_id
    hidden = {column.name or field for field, column in stream.columns.items() if column.pii}
    columns = table_columns(cursor, "raw", table)
    if columns:
        metadata["dagster/column_schema"] = dg.TableSchema(columns=with_statements(columns, stream))
        metadata["sample"] = dg.MetadataValue.md(preview(cursor, "raw", table, [name for name, _ in columns], hidden))
    history = load_history(cursor, card.source, stream.name)
    if history:
        metadata["rows_per_load"] = dg.MetadataValue.md(history_plot(history))
    if loaded:
        metadata |= {name: value for name, value in loaded.detail().items() if name not in metadata}
    return metadata


def table_columns(cursor: psycopg.Cursor[Any], schema: str, table: str) -> list[tuple[str, str]]:
    """Give the columns of a table in order, with their types; nothing where it doesn't exist."""
    cursor.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod) "
        "from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = %s and a.attnum > 0 and not a.attisdropped order by a.attnum",
        (schema, table),
    )
    return cursor.fetchall()


def with_statements(columns: Sequence[tuple[str, str]], stream: StreamCard) -> list[dg.TableColumn]:
    """Join what the table has with what the card states."""
    stated = {column.name or field: column for field, column in stream.columns.items()}
    return [
        dg.TableColumn(
            name=name,
            type=kind,
            description=stated[name].description if name in stated else None,
            constraints=dg.TableColumnConstraints(nullable=name not in stream.primary_key),
            tags={"pii": "true"} if name in stated and stated[name].pii else None,
        )
        for name, kind in columns
    ]


def preview(
    cursor: psycopg.Cursor[Any], schema: str, table: str, columns: Sequence[str], hidden: set[str] | None = None
) -> str:
    """Show a few rows as a markdown table; personal data and the engine's own columns stay out."""
    from psycopg import sql

    names = [name for name in columns if not name.startswith("_") and name not in (hidden or set())]
    shown = names[:PREVIEW_COLUMNS]
    if not shown:
        return "*no columns to show*"
    cursor.execute(
        sql.SQL("select {} from {} limit {}").format(
            sql.SQL(", ").join(map(sql.Identifier, shown)), sql.Identifier(schema, table), sql.Literal(PREVIEW_ROWS)
        )
    )
    lines = ["|" + "|".join(_cell(name) for name in shown) + "|", "|" + "---|" * len(shown)]
    lines += ["|" + "|".join(_cell(value) for value in row) + "|" for row in cursor]
    if len(names) > len(shown):
        lines.append(f"\nand {len(names) - len(shown)} more columns")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "*NULL*"
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
    text = text if len(text) <= PREVIEW_WIDTH else text[: PREVIEW_WIDTH - 1] + "…"
    for character in "\\|<>*_`[]":
        text = text.replace(character, "\\" + character)
    return text.replace("\r", " ").replace("\n", " ")


def load_history(cursor: psycopg.Cursor[Any], source: str, stream: str) -> list[tuple[Any, int, int, int, int]]:
    """Give (finished, read, inserted, updated, quarantined) of the last loads, oldest first."""
    cursor.execute(
        "select * from (select l.load_id, l.finished_at, s.rows_read, s.inserted, s.updated, s.quarantined "
        "from bindery.load_streams s join bindery.loads l using (load_id) "
        "where s.source = %s and s.stream = %s and l.status = 'committed' order by l.load_id desc limit %s) newest "
        "order by load_id",
        (source, stream, HISTORY),
    )
    return [row[1:] for row in cursor]


def history_plot(history: Sequence[tuple[Any, int, int, int, int]]) -> str:
    """Plot rows read per load: one line of bars over all of them, then the last ones with their numbers."""
    read = [row[1] for row in history]
    highest = max(read) or 1
    lines = [f"`{sparkline(read)}` rows read in the last {len(read)} loads, at most {max(read):,}", "", "```"]
    for finished, rows, inserted, updated, refused in history[-8:]:
        lines.append(
            f"{finished:%Y-%m-%d %H:%M} {bar(rows / highest):<24} {rows:>10,} read {inserted:>10,} new "
            f"{updated:>9,} changed {refused:>6,} refused"
        )
    return "\n".join([*lines, "```"])
