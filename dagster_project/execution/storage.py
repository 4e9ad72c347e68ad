"""Connections to Dagster's storage, kept for as long as a process works.

By itself Dagster opens one for each event and each look at a run: 5 ms and a new Postgres process every time, 500 times
in a run of the whole graph. The webserver keeps its own; this gives steps and `bindery run` the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import DagsterInstance

STATEMENT_TIMEOUT_MS = 60_000
RECYCLE_SECONDS = 3600
MAX_OVERFLOW = 5


def keep_connections(instance: DagsterInstance) -> None:
    """Keep one open connection each to the run storage and the event log; further ones close after use."""
    from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage
    from sqlalchemy import event

    for storage in (instance.run_storage, instance.event_log_storage):
        if not isinstance(storage, PostgresRunStorage | PostgresEventLogStorage):
            continue  # a debug run keeps its events in memory
        storage.optimize_for_webserver(
            statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=RECYCLE_SECONDS, max_overflow=MAX_OVERFLOW
        )
        event.listen(storage._engine, "checkout", _alive)


def _alive(connection: Any, _record: Any, _proxy: Any) -> None:
    """Refuse a connection that the server has closed: the pool then opens another, and Dagster waits for a server."""
    from sqlalchemy.exc import DisconnectionError

    try:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
    except connection.Error as error:
        raise DisconnectionError from error
