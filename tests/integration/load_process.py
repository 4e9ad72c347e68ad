"""A source from end to end to be run in a process that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from dagster_project import warehouse
from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import FileSourceCard, RestApiSourceCard
from dagster_project.ingest.runtime import Runtime
from dagster_project.settings import get_settings
from tests.integration.references import Values


def main(request: dict[str, Any]) -> None:
    """Fetch and load; kill this process at the n-th time (from 0) that a stage is reached, after leaving a mark."""
    left = dict(request.get("kill", {}))

    def checkpoint(stage: str) -> None:
        if stage in left:
            left[stage] -= 1
            if left[stage] < 0:
                Path(request["mark"]).write_text(stage)
                os.kill(os.getpid(), signal.SIGKILL)

    settings = get_settings()
    runtime = Runtime(
        connect=lambda: warehouse.connect(settings, "loader"),
        landing=request["landing"],
        resolver=Values(),
        checkpoint=checkpoint,
        load_bytes=request.get("load_bytes", 1024**3),
    )
    model = RestApiSourceCard if "base_url" in request["card"] else FileSourceCard
    pipeline.run_source(model.model_validate(request["card"]), runtime)
