"""Which nodes of a run are already built: kept in Postgres, so that a retry in a fresh container knows it too."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import psycopg

RESUMES = "dagster/is_resume_retry"
"""Dagster's tag of a run that goes on where its parent failed; one that repeats everything doesn't have it."""

PARENT = "dagster/parent_run_id"


def first_run(context: dg.AssetExecutionContext) -> str:
    """Give the run that this one goes on from: itself, or where the chain of resumed runs began."""
    run = context.run
    while run.tags.get(RESUMES) == "true" and (before := run.tags.get(PARENT)):
        parent = context.instance.get_run_by_id(before)
        if parent is None:
            return before
        run = parent
    return run.run_id


def built(connection: psycopg.Connection[Any], run_id: str) -> dict[str, str]:
    """Give the nodes that the run has built, with their statuses."""
    rows = connection.execute("select unique_id, status from bindery.dbt_nodes where run_id = %s", (run_id,))
    return dict(rows.fetchall())


def remember(connection: psycopg.Connection[Any], run_id: str, unique_id: str, status: str) -> None:
    """Keep that a node was built."""
    connection.execute(
        "insert into bindery.dbt_nodes (run_id, unique_id, status) values (%s, %s, %s) "
        "on conflict (run_id, unique_id) do update set status = excluded.status, finished_at = now()",
        (run_id, unique_id, status),
    )


def forget(connection: psycopg.Connection[Any], run_id: str, unique_ids: Collection[str]) -> None:
    """Drop what is kept of some nodes: those that a run builds again on purpose."""
    connection.execute(
        "delete from bindery.dbt_nodes where run_id = %s and unique_id = any(%s)", (run_id, list(unique_ids))
    )
