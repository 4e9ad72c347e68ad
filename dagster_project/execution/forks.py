"""The process that a laptop's steps are forked from: which modules it has, and how it is started early.

Imports no Dagster: what it saves is the time in which Dagster is imported elsewhere.
"""

from __future__ import annotations

ALONE = "dagster_project.execution.alone"
PRELOAD = (
    "dagster",
    "dagster_postgres",
    "dagster_project.definitions",
    "dagster_project.ingest.fetch.files",
    "dagster_project.ingest.fetch.rest",
    "dagster_project.ingest.fetch.run",
    "dagster_project.ingest.fetch.web",
    "dagster_project.ingest.load.run",
    "dagster_project.warehouse",
    "psycopg",
    "psycopg2",
    "pyarrow",
)
"""Modules that steps need and that take time to import; the definitions module alone loads almost nothing."""


def warm_up() -> None:
    """Start the process, so that it imports while the caller still prepares the run.

    The environment of this process is its own and that of every step: it must be complete by now.
    """
    import multiprocessing
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload([ALONE, *PRELOAD])
    forkserver.ensure_running()
