"""Where the rows of one stream go: straight into the table, or into a staging table to be merged.

Knows how to make and change both so that they always have the columns that the rows need. What the columns are is
decided in ``columns`` and ``typing``; how rows are merged is in ``merge``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

from dagster_project.ingest.errors import CardError, DatabaseError
from dagster_project.ingest.load import schema, views
from dagster_project.ingest.load.columns import Columns, ColumnState
from dagster_project.ingest.load.merge import Duplicates, Repeated, delete_missing, merge, settle_staging, settle_target
from dagster_project.ingest.load.names import LOAD_ID, quoted
from dagster_project.ingest.load.schema import Table, sql_type
from dagster_project.ingest.load.session import Session
from dagster_project.ingest.load.types import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagster_project.ingest.cards.base import StreamCard
    from dagster_project.ingest.load.report import StreamLoad

STAGING: Final = "pg_temp.bindery_staging"
SUSPICIOUS: Final = 0.2
"""Share of a load's rows that give way to different ones from which the key is doubted."""


class Target:
    """The table of one stream during a load."""

    def __init__(
        self, session: Session, card: StreamCard, table: Table, report: StreamLoad, tell: Callable[[str], None]
    ) -> None:
        self.session = session
        self.card = card
        self.table = table
        self.report = report
        self.tell = tell
        self.staged = False
        """Whether rows go through staging."""
        self._staging: dict[str, str] | None = None
        self._fresh = False
        """Whether the table holds nothing but this load's rows."""
        self._made = False
        """Whether this load made the table: then all its columns are new, which is no news."""
        self.had_rows = False
        if table.oid is not None and not table.is_table:
            raise DatabaseError(f"{table.sql} is not a table: rename or drop what has its name, and load again")

    # -- before the rows

    def prepare(self, columns: Columns, *, replace: bool, delete_loads: list[int]) -> None:
        """Lock the table against other writers, empty it where the rows replace all, and choose the way.

        Readers go on: only emptying and changing types make them wait.
        """
        table, session = self.table, self.session
        if table.oid is None:
            self._fresh = True
            return
        if LOAD_ID not in table.types:
            raise DatabaseError(
                f"{table.sql} was not made by the loader: it has no column {LOAD_ID}. Rename or drop it, and load again"
            )
        session.run(f"lock table {table.sql} in share row exclusive mode")
        if replace:
            self.report.deleted = session.one(f"select count(*) from {table.sql}")
            self._fresh = self._truncate()
            if not self._fresh:
                session.run(f"delete from {table.sql}")
        elif delete_loads:
            self.report.deleted = session.run(
                f"delete from {table.sql} where {quoted(LOAD_ID)} = any(%s)", [delete_loads]
            ).rowcount
        elif not session.one(f"select exists (select from {table.sql})"):
            # Truncating an empty table gives it new files: what is copied into them needs no write-ahead log twice.
            self._fresh = self._truncate()
        self.had_rows = not self._fresh
        self._declared_types(columns)
        self.staged = self.keyed and not self._fresh
        if self.keyed and self._fresh:
            try:
                with session.savepoint():
                    schema.drop_key(session, table, self._key(columns))
            except psycopg.errors.DependentObjectsStillExist:
                self.staged = True  # a view groups by the key: it stays, and rows come through staging
        elif self.keyed:
            self._same_key(columns)
        elif table.key_is_ours:
            self._no_key()

    def _truncate(self) -> bool:
        """Empty the table at once; tell whether that can be done: not where foreign keys point to it."""
        try:
            with self.session.savepoint():
                self.session.run(f"truncate {self.table.sql}")
        except psycopg.errors.FeatureNotSupported:
            return False
        return True

    @property
    def keyed(self) -> bool:
        """Whether the table has a primary key: append keeps every row, so there it has none."""
        return bool(self.card.primary_key) and self.card.write != "append"

    def _declared_types(self, columns: Columns) -> None:
        """Turn columns into the types that the card states by now."""
        from dagster_project.ingest.load.convert import declared_type

        changes: dict[str, tuple[str, str]] = {}
        states: list[tuple[ColumnState, str]] = []
        for state in columns.by_source.values():
            wanted = declared_type(state.rules)
            if wanted is None or wanted == state.data_type or not state.in_table:
                continue
            changes[state.name] = (state.data_type, wanted)
            states.append((state, wanted))
        if not changes:
            return
        try:
            self._change(changes)
        except views.CannotWidenError as error:
            said = ", ".join(f"{name}: {old} -> {new}" for name, (old, new) in changes.items())
            raise CardError(
                f"{self.table.name}: the card states other types than the table has ({said}), and its rows can't be "
                f"turned: {error}. Take the type out of the card, or empty the table and replay"
            ) from error
        for state, wanted in states:
            if state.data_type != UNKNOWN:
                self.report.widened[state.name] = f"{state.data_type} -> {wanted}"
            state.data_type, state.changed = wanted, True

    def _same_key(self, columns: Columns) -> None:
        """Give a filled table the primary key that the card states."""
        key = self._key(columns)
        if self.table.key == key:
            if not self.table.key_is_ours:
                schema.mark_key(self.session, self.table)
            return
        if missing := [name for name in key if name not in self.table.types]:
            raise CardError(
                f"{self.table.name}: primary_key names {', '.join(missing)}, which the table's rows don't have. "
                "Empty the table and replay"
            )
        try:
            with self.session.savepoint():
                schema.drop_key(self.session, self.table, key)
                schema.add_key(self.session, self.table, key)
        except psycopg.IntegrityError as error:
            said = " ".join(str(error).split())
            raise CardError(
                f"{self.table.name}: its rows don't allow the primary_key ({', '.join(key)}) that the card states: "
                f"{said}. Correct the card, or empty the table and replay"
            ) from error

    def _no_key(self) -> None:
        """Take away the key of a card that has none any more."""
        key = ", ".join(self.table.key)
        try:
            with self.session.savepoint():
                schema.drop_key(self.session, self.table, [])
        except psycopg.errors.DependentObjectsStillExist as error:
            self.report.warnings.append(
                f"the former primary key ({key}) stays, and refuses rows: {error.diag.message_detail}"
            )

    def _key(self, columns: Columns) -> list[str]:
        return [state.name for state in columns.fields(self.card.primary_key)]

    # -- while rows come

    @property
    def destination(self) -> str:
        """Where COPY goes, quoted."""
        return STAGING if self.staged else self.table.sql

    def ensure(self, states: list[ColumnState]) -> None:
        """Make sure that the table, and the staging table, have these columns."""
        new = {state.name: state.data_type for state in states if not state.in_table}
        if self.table.oid is None:
            schema.create_table(self.session, self.table, new)
            self._made = True
            self.tell(f"made {self.table.sql}")
        elif new:
            schema.add_columns(self.session, self.table, new)
            if not self._made:
                self.report.new_columns += list(new)
        for state in states:
            if not state.in_table:
                state.in_table = state.changed = True
        if self.staged:
            self._ensure_staging({state.name: self.table.types[state.name] for state in states})

    def has_staged(self, states: list[ColumnState]) -> bool:
        """Tell whether the staging table has these columns."""
        return self._staging is not None and all(state.name in self._staging for state in states)

    def _ensure_staging(self, types: dict[str, str]) -> None:
        if self._staging is None:
            lines = ", ".join(f"{quoted(name)} {data_type}" for name, data_type in types.items())
            self.session.run(f"create temp table bindery_staging ({lines}) on commit drop")
            self._staging = dict(types)
            return
        new = {name: data_type for name, data_type in types.items() if name not in self._staging}
        if new:
            lines = ", ".join(f"add column {quoted(name)} {data_type}" for name, data_type in new.items())
            self.session.run(f"alter table {STAGING} {lines}")
            self._staging.update(new)

    def widen(self, state: ColumnState, new: str) -> None:
        """Give a column a wider type.

        Raises:
            CannotWidenError: It keeps its type; the message says why.
        """
        old = state.data_type
        if state.in_table and sql_type(old) != sql_type(new):
            self._change({state.name: (old, new)})
            if self._staging is not None and state.name in self._staging:
                self.session.run(f"alter table {STAGING} {schema.alter_type(state.name, old, new)}")
                self._staging[state.name] = sql_type(new)
        if old != UNKNOWN:
            before = self.report.widened.get(state.name, old).split(" -> ")[0]
            self.report.widened[state.name] = f"{before} -> {new}"
        state.data_type, state.changed = new, True

    def _change(self, changes: dict[str, tuple[str, str]]) -> None:
        table = self.table
        if self.had_rows:
            size = self.session.one(
                "select greatest(reltuples, 0)::bigint from pg_class where oid = %s::oid", [table.oid]
            )
            if size >= views.LARGE:
                said = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in changes.items())
                self.tell(f"rewriting {table.sql}, about {size:,} rows: {said}; its readers wait")
        again = views.change_types(self.session, table, changes)
        if again:
            self.tell(f"{', '.join(changes)} of {table.sql} got a wider type; made again: {', '.join(again)}")

    # -- after the rows

    def finish(self, columns: Columns, copied: int, repeated: Repeated, *, complete: bool) -> None:
        """Settle duplicates, merge, delete what is no longer given; count."""
        if self.table.oid is None:
            return
        report, session = self.report, self.session
        newest_by = [s.name for s in columns.fields(self.card.newest_by) if s.in_table]
        if not self.staged:
            if self.keyed and self.table.key_name is None:
                self._finish_fresh(columns, newest_by, repeated, copied)
            report.inserted = copied - report.duplicates
            if copied and not self.had_rows:
                session.run(f"analyze {self.table.sql}")
            return
        if self._staging is None:
            return
        key = self._key(columns)
        seen = list(self._staging)
        values = [name for name in seen if name not in key]
        newest = [name for name in newest_by if name in seen]
        settled = settle_staging(session, STAGING, key, newest, values, repeated)
        self._note(settled, copied)
        merged = merge(session, self.table, STAGING, key, newest, seen)
        report.inserted, report.updated = merged.inserted, merged.updated
        report.unchanged = copied - report.duplicates - merged.inserted - merged.updated
        if complete:
            report.deleted += delete_missing(session, self.table, STAGING, key)
        session.run(f"drop table {STAGING}")
        self._staging = None

    def _finish_fresh(self, columns: Columns, newest_by: list[str], repeated: Repeated, copied: int) -> None:
        key = self._key(columns)
        missing = [state for state in columns.fields(self.card.primary_key) if not state.in_table]
        if missing:
            return  # no row had a key: all are in quarantine
        self._note(settle_target(self.session, self.table, key, newest_by, repeated), copied)

    def _note(self, settled: Duplicates, copied: int) -> None:
        """Count rows that gave way; say so where they are so many and so different that the key may be wrong."""
        report = self.report
        report.duplicates, report.conflicts = settled.rows, settled.conflicts
        if settled.different >= SUSPICIOUS * copied and not self.card.newest_by:
            key = ", ".join(self.card.primary_key)
            report.warnings.append(
                f"{settled.different:,} of {copied:,} rows gave way to one of the same key with other values, as with "
                f"key {settled.example}: is `primary_key: {key}` unique? If it is, `newest_by` says which row wins"
            )
