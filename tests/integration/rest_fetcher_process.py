"""A fetch to be run in a process that is killed."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import psycopg

from dagster_project.ingest.cards import RestApiSourceCard
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.runtime import Runtime
from tests.integration.rest_world import Values


def main(request: dict[str, Any]) -> None:
    """Fetch; kill this process at the n-th time that a named stage is reached."""
    left = request.get("kill", {})

    def checkpoint(stage: str) -> None:
        if stage in left:
            left[stage] -= 1
            if left[stage] < 0:
                sys.stdout.write(f"killed at {stage}\n")
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)

    runtime = Runtime(
        connect=lambda: psycopg.connect(request["dsn"]),
        landing=request["landing"],
        resolver=Values(),
        checkpoint=checkpoint,
    )
    fetch_source(RestApiSourceCard.model_validate(request["card"]), runtime)
    sys.stdout.write("done\n")
