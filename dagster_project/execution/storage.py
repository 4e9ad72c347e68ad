"""Connections to Dagster's storage, kept for as long as a process works.

By itself Dagster opens one for each event and each look at a run: 5 ms and a new Postgres process every time, 500 times
in a run of the whole graph. The webserver keeps its own; this gives steps and `bindery run` the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

STATEMENT_TIMEOUT_MS = 60_000
RECYCLE_SECONDS = 3600
MAX_OVERFLOW = 5


def keep_connections(instance: DagsterInstance) -> None:
    """Keep one open connection each to the run storage and the event log; further ones close after use."""
    for storage in (instance.run_storage, instance.event_log_storage):
        storage.optimize_for_webserver(
            statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=RECYCLE_SECONDS, max_overflow=MAX_OVERFLOW
        )
