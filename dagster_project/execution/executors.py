"""Which executor runs the steps: on a laptop, processes forked from one that has the heavy modules already."""

from __future__ import annotations

import dagster as dg

PRELOAD = (
    "dagster",
    "dagster_postgres",
    "dagster_project.definitions",
    "dagster_project.ingest.fetch.run",
    "dagster_project.ingest.load.run",
    "dagster_project.warehouse",
    "psycopg",
    "psycopg2",
    "pyarrow",
)
"""Modules that a step needs and that take time to import; the definitions module alone loads almost nothing."""

MAX_CONCURRENT = 4
"""Steps at once. Fetches wait for the network and dbt for the database, so more than two cores' worth."""


def executor() -> dg.ExecutorDefinition:
    """Give the executor of this environment."""
    return dg.multiprocess_executor.configured(
        {"max_concurrent": MAX_CONCURRENT, "start_method": {"forkserver": {"preload_modules": list(PRELOAD)}}}
    )
