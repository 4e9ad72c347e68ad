"""The engine's runtime, filled from the platform's settings: for commands and for steps alike.

What a runtime is belongs to the engine; what a run is about (which database, how many rows) to who calls. Imports
neither Dagster nor, before a connection is opened, Postgres.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dagster_project.ingest.runtime import Progress, Runtime

if TYPE_CHECKING:
    import psycopg

    from dagster_project.settings import Settings


class SettingsResolver:
    """Give cards the values of the settings; a secret's text leaves its wrapper only here."""

    def __init__(self, settings: Settings) -> None:
        """Keep the settings; values are read at each call, so that a rotated secret is seen."""
        self._settings = settings

    def resolve_setting(self, name: str) -> str:
        """Give the setting's text."""
        return self._settings.resolve_setting(name)

    def resolve_secret(self, name: str) -> str:
        """Give the secret's text."""
        return self._settings.resolve_secret(name).get_secret_value()


def engine_runtime(
    settings: Settings,
    *,
    database: str | None = None,
    run_id: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Runtime:
    """Make the engine's runtime from the settings: connections as the loader, landing, references, contact.

    Args:
        settings: Where everything is.
        database: Another database than the warehouse.
        run_id: The orchestrator's run, for the load log.
        progress: Who is told how far the work is.
    """

    def connect() -> psycopg.Connection:
        from dagster_project import warehouse

        return warehouse.connect(settings, "loader", database)

    runtime = Runtime(
        connect=connect,
        landing=settings.landing_root,
        resolver=SettingsResolver(settings),
        contact=settings.contact,
        base=settings.project_dir,
        run_id=run_id,
        code=settings.code_version,
    )
    if progress is not None:
        runtime.progress = progress
    return runtime
