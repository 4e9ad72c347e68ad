"""The columns of one stream during a load: which field of the source is which column, of which type.

Known from the schema map (``bindery.columns``), the card and the catalogue at the start; new fields and wider types are
decided here as the rows come, by the card's contract. Writing the DDL is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster_project.ingest.errors import CardError
from dagster_project.ingest.load.convert import declared_type
from dagster_project.ingest.load.names import LOAD_ID, MAX_BYTES, RESERVED, distinct_column_name
from dagster_project.ingest.load.schema import Table
from dagster_project.ingest.load.session import Session
from dagster_project.ingest.load.types import UNKNOWN

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import Column, StreamCard


@dataclass(slots=True)
class ColumnState:
    """One field of the source and its column."""

    source_name: str
    name: str
    data_type: str
    """``unknown`` until a value was seen."""
    position: int
    rules: Column | None = None
    declared: bool = False
    in_table: bool = False
    changed: bool = True
    """Whether the schema map has to be written."""
    seen: bool = False
    """Whether the load's rows have the field."""
    rows: int = 0
    """Rows of the load that reached the table or staging."""
    nulls: int = 0
    words: tuple[str, ...] = ()
    """Words that mean NULL."""
    frozen: str | None = None
    """Why the type can't be changed, once that was tried."""

    @property
    def required(self) -> bool:
        """Whether rows without a value are refused."""
        return self.rules is not None and self.rules.required

    @property
    def declared_rules(self) -> Column | None:
        """The card's word where it states the type: what ``prove`` needs to know."""
        return self.rules if self.declared else None


class Columns:
    """All columns of a stream."""

    def __init__(self, card: StreamCard, table: Table) -> None:
        self.card = card
        self.table = table
        self.by_source: dict[str, ColumnState] = {}
        self.open = True
        """Whether no load has defined the columns yet: the first one does, whatever the contract says."""
        self._overrides = self._checked_overrides()

    def _checked_overrides(self) -> dict[str, str]:
        overrides = {field: rules.name for field, rules in self.card.columns.items() if rules.name is not None}
        seen: dict[str, str] = {}
        for field, name in overrides.items():
            if name in RESERVED or not name or len(name.encode()) > MAX_BYTES or "\0" in name:
                raise CardError(
                    f"stream {self.card.name!r}: columns.{field}.name {name!r} can't be a column: it is empty, longer "
                    f"than {MAX_BYTES} bytes, or one of Postgres' and the engine's own ({', '.join(sorted(RESERVED))})"
                )
            if name in seen:
                raise CardError(
                    f"stream {self.card.name!r}: columns.{field}.name {name!r} is also the name of {seen[name]!r}"
                )
            seen[name] = field
        return overrides

    def load(self, session: Session, source: str) -> None:
        """Read the schema map.

        Raises:
            CardError: The card gives a column another name than the table has.
        """
        rows = session.all(
            "select source_name, column_name, data_type, declared, position from bindery.columns "
            "where (source, stream) = (%s, %s) order by position",
            [source, self.card.name],
        )
        self.open = not rows
        former = self.card.renames
        have = {row[0] for row in rows}
        for source_name, name, data_type, _, position in rows:
            today = former.get(source_name, source_name)
            if today != source_name and today in have:
                continue  # both names had columns before the card said that they are one
            state = self._state(today, name, data_type, position)
            state.changed = today != source_name
            if state.in_table and not (data_type == UNKNOWN and self.table.types[name] == "text"):
                state.data_type = self.table.types[name]
            elif not state.in_table and state.declared:
                state.data_type = declared_type(state.rules) or data_type
            self.by_source[today] = state
        for field, name in self._overrides.items():
            known = self.by_source.get(field)
            if known is not None and known.name != name and known.in_table:
                raise CardError(
                    f"stream {self.card.name!r}: field {field!r} is column {known.name!r} in {self.table.name}, the "
                    f"card now calls it {name!r}: a loaded column keeps its name, so take `name` out of the card"
                )

    def resolve(self, source_name: str) -> ColumnState:
        """Give a field's column; a field not seen before gets one (not in the table yet)."""
        state = self.by_source.get(source_name)
        if state is None:
            name = self._overrides.get(source_name) or distinct_column_name(source_name, self._taken(source_name))
            position = 1 + max((known.position for known in self.by_source.values()), default=0)
            state = self._state(source_name, name, UNKNOWN, position)
            if state.in_table:
                state.data_type = self.table.types[name]
            elif state.declared:
                state.data_type = declared_type(state.rules) or UNKNOWN
            self.by_source[source_name] = state
        return state

    def _taken(self, source_name: str) -> set[str]:
        names = {known.name for known in self.by_source.values()} | RESERVED
        return names | {name for field, name in self._overrides.items() if field != source_name}

    def _state(self, source_name: str, name: str, data_type: str, position: int) -> ColumnState:
        rules = self.card.columns.get(source_name)
        words = (*self.card.null, *(rules.null if rules else ()))
        return ColumnState(
            source_name,
            name,
            data_type,
            position,
            rules,
            declared=declared_type(rules) is not None,
            in_table=name in self.table.types and name != LOAD_ID,
            words=words,
        )

    def fields(self, names: list[str]) -> list[ColumnState]:
        """Give the columns of fields that the card names, such as the primary key."""
        return [self.resolve(name) for name in names]

    def write(self, session: Session, source: str, load_id: int) -> None:
        """Write what changed to the schema map."""
        changed = [state for state in self.by_source.values() if state.changed and state.in_table]
        if not changed:
            return
        former = [old for old, today in self.card.renames.items() if today in self.by_source]
        if former:
            session.run(
                "delete from bindery.columns where (source, stream) = (%s, %s) and source_name = any(%s)",
                [source, self.card.name, former],
            )
        with session.connection.cursor() as cursor:
            cursor.executemany(
                "insert into bindery.columns (source, stream, source_name, column_name, data_type, declared, position, "
                "load_id) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (source, stream, source_name) do update "
                "set column_name = excluded.column_name, data_type = excluded.data_type, "
                "declared = excluded.declared, position = excluded.position, load_id = excluded.load_id",
                [
                    (source, self.card.name, s.source_name, s.name, s.data_type, s.declared, s.position, load_id)
                    for s in changed
                ],
            )
        for state in changed:
            state.changed = False
