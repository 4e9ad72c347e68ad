"""Merging: one row per key in the load, then new rows in, changed rows over, the others untouched.

Works on tables that are there and filled: the target, and the temporary staging table of the load. A hash join finds
out which rows are new or different. ``ON CONFLICT`` asks the key's index for each row instead, which takes three times
as long (a million rows of which none is new: 0.6 s against 2.4 s), and ``MERGE`` fetches every matching row once more
(0.8 s) without telling how many it inserted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import errors

from dagster_project.ingest.load.names import LOAD_ID, TID, quoted
from dagster_project.ingest.load.schema import Table, add_key
from dagster_project.ingest.load.session import Session

KEPT: Final = "pg_temp.bindery_kept"
"""Keys of refused rows: the source still has them, so that nothing is deleted for them."""


Repeated = Sequence[tuple[int, ...]] | None
"""Keys that came more than once, where that is known without asking Postgres."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that shared a key within the load."""

    rows: int = 0
    """Rows that gave way."""
    conflicts: int = 0
    """Keys whose rows had different values."""
    different: int = 0
    """Rows that gave way to one with different values."""
    example: str = ""
    """A key of such rows."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did."""

    inserted: int
    updated: int


def settle_target(
    session: Session, table: Table, key: list[str], newest_by: list[str], repeated: Repeated
) -> Duplicates:
    """Leave one row per key in a freshly filled table and add its primary key.

    The key's index is built after the rows: it takes a third of the time that growing it row by row does, and where
    nobody knows of repeated keys it is the cheapest way to find out.
    """
    found = Duplicates()
    try:
        with session.savepoint():
            if repeated:
                raise errors.UniqueViolation
            add_key(session, table, key)
    except errors.UniqueViolation:
        values = [column for column in table.types if column not in {*key, LOAD_ID}]
        found = _settle(session, table.sql, key, newest_by, values, repeated)
        add_key(session, table, key)
    return found


def settle_staging(
    session: Session, staging: str, key: list[str], newest_by: list[str], values: list[str], repeated: Repeated
) -> Duplicates:
    """Leave one row per key in the staging table."""
    if repeated is not None:
        return _settle(session, staging, key, newest_by, values, repeated) if repeated else Duplicates()
    try:
        with session.savepoint():
            session.run(f"create unique index on {staging} ({', '.join(map(quoted, key))})")
        return Duplicates()
    except errors.UniqueViolation:
        return _settle(session, staging, key, newest_by, values, None)


def _settle(
    session: Session, table: str, key: list[str], newest_by: list[str], values: list[str], repeated: Repeated
) -> Duplicates:
    """Delete all rows of a key but the newest, then the last read: rows lie in the order in which they were read."""
    keys = ", ".join(map(quoted, key))
    order = ", ".join([*(f"{quoted(column)} desc nulls last" for column in newest_by), "x.ctid desc"])
    among = ""
    if repeated:
        lists = [",".join(map(str, column)) for column in zip(*repeated, strict=True)]
        columns = [f"unnest('{{{each}}}'::bigint[]) as {quoted(c)}" for each, c in zip(lists, key, strict=True)]
        session.run("drop table if exists pg_temp.bindery_repeated")
        session.run(f"create temp table bindery_repeated on commit drop as select {', '.join(columns)}")
        session.run("analyze pg_temp.bindery_repeated")
        among = f" join pg_temp.bindery_repeated using ({keys})"
    session.run("drop table if exists pg_temp.bindery_losers")
    session.run(
        "create temp table bindery_losers on commit drop as select loser, winner from (select x.ctid as loser, "
        f"first_value(x.ctid) over w as winner, row_number() over w as place from {table} x{among} "
        f"window w as (partition by {keys} order by {order})) ranked where place > 1"
    )
    session.run("analyze pg_temp.bindery_losers")
    conflicts, different, example = 0, 0, ""
    if values:
        shown = " || ', ' || ".join(f"left(l.{quoted(column)}::text, 60)" for column in key)
        conflicts, different, example = session.all(
            f"select count(distinct winner), count(*), min({shown}) from pg_temp.bindery_losers x "
            f"join {table} l on l.ctid = x.loser join {table} w on w.ctid = x.winner where {_differ('l', 'w', values)}"
        )[0]
    rows = session.run(f"delete from {table} t using pg_temp.bindery_losers x where t.ctid = x.loser").rowcount
    session.run("drop table pg_temp.bindery_losers")
    return Duplicates(rows, conflicts, different, example or "")


def _differ(left: str, right: str, columns: list[str]) -> str:
    def row(side: str) -> str:
        return f"row({', '.join(f'{side}.{quoted(column)}' for column in columns)})"

    return f"{row(left)} is distinct from {row(right)}"


def _same_key(left: str, right: str, key: list[str]) -> str:
    return " and ".join(f"{left}.{quoted(column)} = {right}.{quoted(column)}" for column in key)


def merge(
    session: Session, table: Table, staging: str, key: list[str], newest_by: list[str], seen: list[str]
) -> Merged:
    """Bring staged rows (one per key) into the table; rows that are the same are not touched.

    Args:
        session: In the load's transaction, which has locked the table against other writers.
        table: The target.
        staging: The staging table, quoted.
        key: Columns of the primary key.
        newest_by: Columns of the tie-break: an older row never overwrites a newer one.
        seen: Columns that the load has; the others keep their values.
    """
    values = [column for column in seen if column not in key]
    names = ", ".join(map(quoted, seen))
    staged = ", ".join(f"s.{quoted(column)}" for column in seen)
    changed = f"t.{quoted(key[0])} is null"
    if values:
        newer = _newer([column for column in newest_by if column in seen])
        changed += f" or ({_differ('t', 's', values)}{newer})"
    inserted = updated = 0
    if _mostly_new(session, table, staging, key):
        # All of them go in at once; what is left is then different or the same, never new.
        there = f"select from {table.sql} t where {_same_key('t', 's', key)}"
        inserted = session.run(
            f"insert into {table.sql} ({names}) select {staged} from {staging} s where not exists ({there})"
        ).rowcount
        if inserted == session.one(f"select count(*) from {staging}"):
            return Merged(inserted, 0)
    session.run("drop table if exists pg_temp.bindery_changed")
    found = session.run(
        f"create temp table bindery_changed on commit drop as select {staged}, t.ctid as {quoted(TID)} "
        f"from {staging} s left join {table.sql} t on {_same_key('t', 's', key)} where {changed}"
    ).rowcount
    if found:
        session.run("analyze pg_temp.bindery_changed")
        if values:
            sets = ", ".join(f"{quoted(column)} = c.{quoted(column)}" for column in values)
            updated = session.run(
                f"update {table.sql} t set {sets}, {quoted(LOAD_ID)} = default from pg_temp.bindery_changed c "
                f"where t.ctid = c.{quoted(TID)}"
            ).rowcount
        if updated < found:
            inserted += session.run(
                f"insert into {table.sql} ({names}) select {names} from pg_temp.bindery_changed "
                f"where {quoted(TID)} is null"
            ).rowcount
    session.run("drop table pg_temp.bindery_changed")
    return Merged(inserted, updated)


def _mostly_new(session: Session, table: Table, staging: str, key: list[str]) -> bool:
    """Look at a sample of the staged rows, by the key's index: writing all new rows twice would cost a quarter more."""
    sample = f"(select * from {staging} tablesample system (1) repeatable (1) limit 500) s"
    there = f"exists (select from {table.sql} t where {_same_key('t', 's', key)})"
    seen, known = session.run(f"select count(*), count(*) filter (where {there}) from {sample}").fetchone() or (0, 0)
    return bool(seen >= 100 and known < seen / 10)


def _newer(columns: list[str]) -> str:
    """Give the condition that the staged row is as new as the table's, or newer; NULL is oldest."""
    condition = "true"
    for column in reversed(columns):
        staged, there = f"s.{quoted(column)}", f"t.{quoted(column)}"
        condition = (
            f"(({there} is null and {staged} is not null) or ({staged} > {there}) is true "
            f"or ({staged} is not distinct from {there} and {condition}))"
        )
    return f" and {condition}" if columns else ""


def delete_missing(session: Session, table: Table, staging: str, key: list[str]) -> int:
    """Delete rows whose key is neither among the staged ones nor among those of refused rows (``make_kept``)."""
    refused = " and ".join(f"k.{quoted(column)}::text = t.{quoted(column)}::text" for column in key)
    return session.run(
        f"delete from {table.sql} t where not exists (select from {staging} s where {_same_key('s', 't', key)}) "
        f"and not exists (select from {KEPT} k where {refused})"
    ).rowcount


def make_kept(session: Session, table: Table, key: list[str]) -> None:
    """Make the table that notes the keys of refused rows."""
    session.run("drop table if exists pg_temp.bindery_kept")
    lines = ", ".join(f"{quoted(column)} {table.types[column]}" for column in key)
    session.run(f"create temp table bindery_kept ({lines}) on commit drop")


def note_kept(session: Session, keys: list[tuple[str, ...]]) -> None:
    """Note keys of refused rows."""
    with session.connection.cursor() as cursor, cursor.copy(f"copy {KEPT} from stdin".encode()) as copy:
        for values in keys:
            copy.write_row(values)
