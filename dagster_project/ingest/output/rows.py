"""Rows of a table as Arrow batches: types kept, memory for one batch, the order of the table."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

if TYPE_CHECKING:
    import psycopg

ROWS: Final = 20_000
"""Rows of a batch."""
_DIGITS: Final = 38
"""Of Arrow's decimals; numbers with more are written as texts."""
_ARROW: Final[dict[str, pa.DataType]] = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "text": pa.string(),
}


@dataclass(frozen=True, slots=True)
class OutColumn:
    """A column on its way out."""

    name: str
    kind: str
    """Of Postgres."""
    arrow: pa.DataType
    as_text: bool


def columns_of(connection: psycopg.Connection[Any], table: str, hidden: Sequence[str], where: str) -> list[OutColumn]:
    """Give the columns of a raw table with the types that their values have in a file; none where it isn't there.

    Args:
        connection: In the transaction that reads.
        table: Name in ``raw``.
        hidden: Columns that don't leave.
        where: Which rows, as SQL: decimals are as wide as these need.
    """
    found = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = "
        "to_regclass('raw.' || quote_ident(%s)) and attnum > 0 and not attisdropped order by attnum",
        [table],
    ).fetchall()
    columns = []
    for name, kind in found:
        if name in hidden:
            continue
        arrow = _decimal(connection, table, name, where) if kind.startswith("numeric") else _ARROW.get(kind)
        columns.append(OutColumn(name, kind, arrow or pa.string(), arrow is None or kind == "jsonb"))
    return columns


def batches(
    connection: psycopg.Connection[Any], table: str, columns: Sequence[OutColumn], where: str
) -> Iterator[pa.RecordBatch]:
    """Give the rows in the order in which they lie in the table."""
    from psycopg import sql

    schema = pa.schema([pa.field(each.name, each.arrow) for each in columns])
    parts = [sql.Identifier(each.name) + sql.SQL("::text" if each.as_text else "") for each in columns]
    statement = sql.SQL("select {} from raw.{} where " + where + " order by ctid").format(
        sql.SQL(", ").join(parts), sql.Identifier(table)
    )
    with connection.cursor(name=f"output_{secrets.token_hex(4)}") as cursor:
        cursor.execute(statement)
        while rows := cursor.fetchmany(ROWS):
            values = zip(*rows, strict=True)
            arrays = [pa.array(list(each), column.arrow) for each, column in zip(values, columns, strict=True)]
            yield pa.record_batch(arrays, schema=schema)


def _decimal(connection: psycopg.Connection[Any], table: str, name: str, where: str) -> pa.DataType | None:
    """Give the decimal type that holds all values without loss; None where there is none."""
    from psycopg import sql

    row = connection.execute(
        sql.SQL(
            "select coalesce(max(scale({0})), 0), coalesce(max(length(trunc(abs({0}))::text)), 1), "
            "coalesce(bool_or({0} in ('NaN', 'Infinity', '-Infinity')), false) from raw.{1} where " + where
        ).format(sql.Identifier(name), sql.Identifier(table))
    ).fetchone()
    assert row is not None
    scale, whole, odd = row
    return None if odd or scale + whole > _DIGITS else pa.decimal128(max(scale + whole, 1), scale)
