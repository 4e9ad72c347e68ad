"""From a DataFrame to a table: made or fitted where needed, filled by COPY, all in one transaction."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dagster_project.warehouse.frame_columns import WriteColumn, plan_columns
from dagster_project.warehouse.frame_types import FrameError, TableName, fits, quoted

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

BATCH_ROWS = 50_000
INCOMING = "bindery_incoming"


@dataclass(slots=True)
class WriteReport:
    """What a write did."""

    rows: int
    """Of the frame."""
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    created: bool = False
    changes: list[str] = field(default_factory=list)
    """What was changed about the table's columns."""


def write_frame(
    connection: psycopg.Connection[Any],
    frame: pd.DataFrame,
    table: TableName,
    mode: Literal["replace", "append", "merge"],
    key: Sequence[str] = (),
) -> WriteReport:
    """Write a frame in one transaction; see ``Warehouse.write_frame``.

    Raises:
        FrameError: Frame and table don't go together; nothing is written.
    """
    import psycopg

    if mode == "merge" and not key:
        raise FrameError(f"merging into {table} needs key=: the columns that identify a row")
    columns = plan_columns(frame)
    check_key(frame, key)
    report = WriteReport(rows=len(frame))
    try:
        with connection.transaction():
            existing = table_columns(connection, table)
            if existing is None:
                create_table(connection, table, columns, key)
                report.created = True
                existing = table_columns(connection, table)
                assert existing is not None
            elif mode == "replace":
                # Emptied first: any change of columns is then one of names alone.
                connection.execute(f"truncate {table.sql}")
                report.changes = fit_table(connection, table, existing, columns)
                existing = table_columns(connection, table)
                assert existing is not None
            check_columns(table, columns, existing)
            if mode == "merge":
                merge(connection, table, columns, existing, tuple(key), report)
            else:
                copy_in(connection, table.sql, columns, existing)
                report.inserted = len(frame)
    except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.FeatureNotSupported) as error:
        detail = error.diag.message_detail or error.diag.message_primary
        raise FrameError(
            f"{table} can't take the frame's columns, because something depends on them: {detail}"
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise FrameError(f"{connection.info.user} may not write {table}: {error.diag.message_primary}") from None
    except (psycopg.errors.DataError, psycopg.errors.IntegrityError) as error:
        context = f" ({error.diag.context.splitlines()[0]})" if error.diag.context else ""
        raise FrameError(f"{table} refuses a row: {error.diag.message_primary}{context}") from None
    return report


def check_key(frame: pd.DataFrame, key: Sequence[str]) -> None:
    """Refuse a key that isn't one in the frame.

    Raises:
        FrameError: A column is missing, a value is, or two rows have the same.
    """
    if not key:
        return
    if absent := [name for name in key if name not in frame.columns]:
        raise FrameError(f"the key names columns that the frame hasn't: {', '.join(absent)}")
    part = frame[list(key)]
    if part.isna().to_numpy().any():
        raise FrameError(f"the key ({', '.join(key)}) has missing values")
    if (doubled := part.duplicated()).any():
        sample = part[doubled].iloc[0].to_dict()
        raise FrameError(f"the key ({', '.join(key)}) isn't unique: {int(doubled.sum())} rows repeat one, as {sample}")


def table_columns(connection: psycopg.Connection[Any], table: TableName) -> dict[str, str] | None:
    """Give a table's columns with their types, or None where there is no table."""
    rows = connection.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a where a.attrelid = to_regclass(%s) "
        "and a.attnum > 0 and not a.attisdropped order by a.attnum",
        (table.sql,),
    ).fetchall()
    return dict(rows) or None


def create_table(
    connection: psycopg.Connection[Any], table: TableName, columns: list[WriteColumn], key: Sequence[str]
) -> None:
    """Make a table for the frame; a column without any value is text."""
    parts = [f"{quoted(each.name)} {declared(each)}" for each in columns]
    if key:
        parts.append(f"primary key ({', '.join(quoted(name) for name in key)})")
    connection.execute(f"create table {table.sql} ({', '.join(parts)})")


def declared(column: WriteColumn) -> str:
    """Give the type a new table's column gets."""
    return "text" if column.type == "null" else column.type


def fit_table(
    connection: psycopg.Connection[Any], table: TableName, existing: dict[str, str], columns: list[WriteColumn]
) -> list[str]:
    """Give an emptied table the frame's columns. It stays the same table: grants and views on kept columns stay.

    Returns:
        What was changed, in words.
    """
    steps = []
    changes = []
    wanted = {each.name: each for each in columns}
    for name, kind in existing.items():
        if name not in wanted:
            steps.append(f"drop column {quoted(name)}")
            changes.append(f"dropped {name}")
        elif not fits(wanted[name].type, kind):
            new = declared(wanted[name])
            steps.append(f"alter column {quoted(name)} drop default, alter column {quoted(name)} type {new} using null")
            changes.append(f"{name} from {kind} to {new}")
    for name, column in wanted.items():
        if name not in existing:
            steps.append(f"add column {quoted(name)} {declared(column)}")
            changes.append(f"added {name}")
    if steps:
        connection.execute(f"alter table {table.sql} {', '.join(steps)}")
    return changes


def check_columns(table: TableName, columns: list[WriteColumn], existing: dict[str, str]) -> None:
    """Refuse a frame whose columns the table hasn't, or has with a type of another kind.

    Raises:
        FrameError: Names all of them.
    """
    problems = [f"no column {each.name!r}" for each in columns if each.name not in existing]
    problems += [
        f"{each.name!r} is {existing[each.name]} there and {each.type} in the frame"
        for each in columns
        if each.name in existing and not fits(each.type, existing[each.name])
    ]
    if problems:
        raise FrameError(f"{table} can't take the frame: {'; '.join(problems)}. mode='replace' changes the table")


def copy_in(
    connection: psycopg.Connection[Any], target: str, columns: list[WriteColumn], existing: dict[str, str]
) -> None:
    """Stream the frame to the server as CSV, batch by batch."""
    import pyarrow as pa
    from pyarrow import csv

    arrays = [each.array(existing[each.name]) for each in columns]
    table = pa.table(arrays, names=[str(number) for number in range(len(arrays))])
    names = ", ".join(quoted(each.name) for each in columns)
    # Texts are written in quotes, so an empty one is "" and NULL is nothing.
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    statement = f"copy {target} ({names}) from stdin (format csv)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            buffer = io.BytesIO()
            csv.write_csv(batch, buffer, options)
            copy.write(buffer.getbuffer())


def merge(
    connection: psycopg.Connection[Any],
    table: TableName,
    columns: list[WriteColumn],
    existing: dict[str, str],
    key: tuple[str, ...],
    report: WriteReport,
) -> None:
    """Insert new keys, update changed rows, leave equal ones untouched."""
    ensure_unique(connection, table, key)
    names = ", ".join(quoted(each.name) for each in columns)
    connection.execute(f"create temporary table {INCOMING} on commit drop as select {names} from {table.sql} limit 0")
    copy_in(connection, INCOMING, columns, existing)
    others = [quoted(each.name) for each in columns if each.name not in key]
    action = "do nothing"
    if others:
        ours, theirs = ", ".join(f"t.{name}" for name in others), ", ".join(f"excluded.{name}" for name in others)
        action = (
            f"do update set {', '.join(f'{name} = excluded.{name}' for name in others)} "
            f"where row({ours}) is distinct from row({theirs})"
        )
    row = connection.execute(
        # A row that this statement inserted has no deleting transaction; one that it updated has ours.
        f"with done as (insert into {table.sql} as t ({names}) select {names} from {INCOMING} "
        f"on conflict ({', '.join(quoted(name) for name in key)}) {action} returning t.xmax = 0 as fresh) "
        "select count(*) filter (where fresh), count(*) filter (where not fresh) from done"
    ).fetchone()
    assert row is not None
    report.inserted, report.updated = row
    report.unchanged = report.rows - report.inserted - report.updated
    connection.execute(f"drop table {INCOMING}")


def ensure_unique(connection: psycopg.Connection[Any], table: TableName, key: tuple[str, ...]) -> None:
    """Give the table a unique index on the key where it has none.

    Raises:
        FrameError: The key isn't one in the table.
    """
    import psycopg

    row = connection.execute(
        "select exists (select from pg_index i where i.indrelid = to_regclass(%s) and i.indisunique "
        "and i.indpred is null and i.indexprs is null and (select array_agg(a.attname::text order by a.attname::text) "
        "from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any(i.indkey)) = %s)",
        (table.sql, sorted(key)),
    ).fetchone()
    if row is not None and row[0]:
        return
    try:
        connection.execute(f"create unique index on {table.sql} ({', '.join(quoted(name) for name in key)})")
    except psycopg.errors.UniqueViolation as error:
        raise FrameError(f"({', '.join(key)}) isn't a key of {table}: {error.diag.message_detail}") from None
