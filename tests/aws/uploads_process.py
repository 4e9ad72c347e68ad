"""A consumer or a worker of uploads as a process, to be killed at any moment: it does its work over and over.

usage: python -m tests.aws.uploads_process consumer|worker CARD QUEUE_URL
"""

from __future__ import annotations

import sys
import time

from dagster_project import warehouse
from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import FileSourceCard
from dagster_project.ingest.errors import IngestError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.inbox import log
from dagster_project.ingest.inbox.consume import consume, routes_of
from dagster_project.ingest.inbox.reconcile import reconcile
from dagster_project.ingest.runtime import Runtime
from dagster_project.settings import get_settings
from dagster_project.warehouse.connection import WarehouseUnavailableError
from tests.integration.references import Values

RECONCILE_SECONDS = 5.0


def main(what: str, card_json: str, url: str) -> None:
    """Work until killed; a database that is away is waited for."""
    import psycopg

    settings = get_settings()
    card = FileSourceCard.model_validate_json(card_json)
    runtime = Runtime(
        connect=lambda: warehouse.connect(settings, "loader"),
        landing="s3://landing/raw",
        resolver=Values(),
        code="soak",
    )
    listed = time.monotonic()
    while True:
        try:
            if what == "consumer":
                routes = routes_of([card], runtime)
                consume(routes, runtime, url, seconds=5, wait=1, hidden=3)
                if time.monotonic() - listed > RECONCILE_SECONDS:
                    reconcile(routes[0], runtime)
                    listed = time.monotonic()
            else:
                work(card, runtime)
        except (IngestError, WarehouseUnavailableError, psycopg.Error) as error:
            print(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
            time.sleep(0.3)


def work(card: FileSourceCard, runtime: Runtime) -> None:
    """Do what a run does, where something waits for one."""
    with runtime.connect() as connection:
        waiting = log.waiting(connection, card.source)
    if waiting is not None:
        fetch_source(card, runtime, arrivals=True, lock_wait=2)
        pipeline.run_source(card, runtime, fetch=False)
    else:
        pipeline.write_out(card, runtime)
        time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
