"""Tables of ``raw``: what is there, and the DDL that makes and changes them.

Which columns a stream has and what they are called is in ``columns``; views that stand in the way are in ``views``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dagster_project.ingest.load.names import LOAD_ID, quoted
from dagster_project.ingest.load.session import Session
from dagster_project.ingest.load.types import UNKNOWN

SCHEMA: Final = "raw"

LINEAGE: Final = f"{quoted(LOAD_ID)} bigint not null default current_setting('bindery.load_id')::bigint"
"""Set per transaction, so that no statement carries it; time and batch by join with the load log."""

_KEY_MARK: Final = "primary_key of the card"
"""Comment on the keys that the loader makes: others are not its own to drop."""

_OURS: Final = {
    "boolean": "boolean",
    "bigint": "bigint",
    "numeric": "numeric",
    "double precision": "double precision",
    "date": "date",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "text": "text",
    "jsonb": "jsonb",
}


@dataclass(slots=True)
class Table:
    """A raw table as the catalogue has it."""

    name: str
    oid: int | None = None
    """None where there is no such table."""
    types: dict[str, str] = field(default_factory=dict)
    """Column -> type; Postgres' own word where the type isn't one of ours."""
    comments: dict[str, str] = field(default_factory=dict)
    """Column -> comment; the table's own under the empty name."""
    key: list[str] = field(default_factory=list)
    """Columns of the primary key, in its order."""
    key_name: str | None = None
    key_is_ours: bool = False
    """Whether the loader made the primary key."""
    is_table: bool = True

    @property
    def sql(self) -> str:
        """The qualified name, quoted."""
        return quoted(SCHEMA, self.name)


def sql_type(data_type: str) -> str:
    """Give the type that a column gets in the table."""
    return "text" if data_type == UNKNOWN else data_type


def read_table(session: Session, name: str) -> Table:
    """Read what the catalogue says of a table; an empty answer where it isn't there."""
    table = Table(name)
    row = session.run(
        "select c.oid::bigint, c.relkind::text from pg_class c where c.relnamespace = to_regnamespace(%s) "
        "and c.relname = %s",
        [SCHEMA, name],
    ).fetchone()
    if row is None:
        return table
    table.oid, table.is_table = row[0], row[1] in ("r", "p")
    for column, data_type, comment in session.all(
        "select attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) from pg_attribute "
        "where attrelid = %s::oid and attnum > 0 and not attisdropped order by attnum",
        [table.oid],
    ):
        table.types[column] = _OURS.get(data_type, data_type)
        if comment is not None:
            table.comments[column] = comment
    comment = session.one("select obj_description(%s::oid, 'pg_class')", [table.oid])
    if comment is not None:
        table.comments[""] = comment
    for key_name, column, said in session.all(
        "select c.conname, a.attname, obj_description(c.oid, 'pg_constraint') "
        "from pg_constraint c cross join unnest(c.conkey) with ordinality k(attnum, at) "
        "join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum "
        "where c.conrelid = %s::oid and c.contype = 'p' order by k.at",
        [table.oid],
    ):
        table.key_name, table.key_is_ours = key_name, said == _KEY_MARK
        table.key.append(column)
    return table


def create_table(session: Session, table: Table, columns: dict[str, str]) -> None:
    """Make a table of these columns (name -> type) and the lineage column."""
    lines = [f"{quoted(name)} {sql_type(data_type)}" for name, data_type in columns.items()]
    session.run(f"create table {table.sql} ({', '.join([*lines, LINEAGE])})")
    table.oid = session.one("select to_regclass(%s)::oid::bigint", [table.sql])
    table.types.update({name: sql_type(data_type) for name, data_type in columns.items()})
    table.types[LOAD_ID] = "bigint"


def add_columns(session: Session, table: Table, columns: dict[str, str]) -> None:
    """Add columns (name -> type) to the end of a table."""
    lines = [f"add column {quoted(name)} {sql_type(data_type)}" for name, data_type in columns.items()]
    session.run(f"alter table {table.sql} {', '.join(lines)}")
    table.types.update({name: sql_type(data_type) for name, data_type in columns.items()})


def conversion(column: str, old: str, new: str) -> str:
    """Give the expression that turns a column's values into another type without loss.

    Numbers go through their text: Postgres' own cast of a binary number to numeric keeps 15 digits only.
    """
    name = quoted(column)
    if old == UNKNOWN:
        return f"null::{sql_type(new)}"
    if new == "jsonb":
        return f"to_jsonb({name})"
    if new == "text":
        return f"{name}::text"
    return f"nullif({name}::text, '')::{new}"


def alter_type(column: str, old: str, new: str) -> str:
    """Give the part of ALTER TABLE that changes a column's type."""
    return f"alter column {quoted(column)} type {sql_type(new)} using {conversion(column, old, new)}"


def add_key(session: Session, table: Table, key: list[str]) -> None:
    """Add the primary key; raises ``UniqueViolation`` where rows share one."""
    session.run(f"alter table {table.sql} add primary key ({', '.join(map(quoted, key))})")
    table.key = list(key)
    table.key_name = session.one(
        "select conname from pg_constraint where conrelid = %s::oid and contype = 'p'", [table.oid]
    )
    mark_key(session, table)


def mark_key(session: Session, table: Table) -> None:
    """Note on the primary key that it is the loader's."""
    assert table.key_name is not None
    session.run(f"comment on constraint {quoted(table.key_name)} on {table.sql} is '{_KEY_MARK}'")
    table.key_is_ours = True


def drop_key(session: Session, table: Table, new: list[str]) -> None:
    """Drop the primary key, if there is one, and with it that its columns must have values.

    Args:
        session: In the load's transaction.
        table: Whose key goes.
        new: Columns of the key that comes: they keep what they are.
    """
    if table.key_name is None:
        return
    lines = [f"drop constraint {quoted(table.key_name)}"]
    # Postgres makes a key's columns NOT NULL, and leaves them so.
    lines += [f"alter column {quoted(name)} drop not null" for name in table.key if name not in new]
    session.run(f"alter table {table.sql} {', '.join(lines)}")
    table.key, table.key_name, table.key_is_ours = [], None, False


def comment(session: Session, table: Table, wanted: dict[str, str]) -> None:
    """Write descriptions to the table (empty name) and its columns where they are not there yet."""
    for column, text in wanted.items():
        if table.comments.get(column) == text or (column and column not in table.types):
            continue
        what = f"column {table.sql}.{quoted(column)}" if column else f"table {table.sql}"
        # COMMENT takes no parameters.
        session.run(f"comment on {what} is {session.one('select quote_literal(%s::text)', [text])}")
        table.comments[column] = text
