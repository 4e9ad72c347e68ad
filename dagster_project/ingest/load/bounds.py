"""The card's bounds of a healthy load (``expect``), held against the result before it is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_project.ingest.errors import CardError, DataRefusedError

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import StreamCard
    from dagster_project.ingest.load.columns import Columns
    from dagster_project.ingest.load.report import StreamLoad
    from dagster_project.ingest.load.schema import Table
    from dagster_project.ingest.load.session import Session


def check_rows(session: Session, card: StreamCard, table: Table, report: StreamLoad, *, more: bool = False) -> None:
    """Count the table's rows where the card bounds them.

    Args:
        session: In the load's transaction.
        card: The stream's.
        table: What it is loaded into.
        report: Is told how many.
        more: Whether further loads of the stream follow at once: too few rows are none of this one's faults.

    Raises:
        DataRefusedError: Too few or too many.
    """
    least, most = card.expect.min_rows, card.expect.max_rows
    if least is None and most is None:
        return
    rows = 0 if table.oid is None else session.one(f"select count(*) from {table.sql}")
    report.table_rows = rows
    bound = None
    if least is not None and rows < least and not more:
        bound = f"min_rows is {least}"
    elif most is not None and rows > most:
        bound = f"max_rows is {most}"
    if bound:
        raise DataRefusedError(f"{report.table}: would have {rows:,} rows, and `expect.{bound}`: nothing was loaded")


def check_nulls(card: StreamCard, columns: Columns, copied: int, table: str) -> None:
    """Hold the share of NULL among the load's rows against the card's bounds.

    Raises:
        CardError: A bound names a column that no row has.
        DataRefusedError: A share is too large.
    """
    if not copied:
        return
    for name, allowed in card.expect.max_null_rate.items():
        state = next((s for s in columns.by_source.values() if name in (s.source_name, s.name)), None)
        if state is None:
            raise CardError(f"stream {card.name!r}: expect.max_null_rate names {name!r}, which no row has")
        nulls = state.nulls + copied - state.rows
        if nulls / copied > allowed:
            raise DataRefusedError(
                f"{table}: {name} is NULL in {nulls:,} of {copied:,} rows of this load, and "
                f"`expect.max_null_rate` allows {allowed:g}: nothing was loaded"
            )
