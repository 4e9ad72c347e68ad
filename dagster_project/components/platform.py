"""What the ops of a source are given by the resource ``platform``: an engine runtime, and what this run is about.

The resource itself is put together in ``dagster_project.resources``; components know only this shape, so that a test
hands them another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import dagster as dg
    import psycopg

    from dagster_project.ingest.runtime import Progress, Runtime

RESOURCE = "platform"


class Platform(Protocol):
    """Settings, connections and folders of the platform, for the length of a step."""

    debug_rows: int
    """At most so many rows of each stream, in the scratch database; 0 means everything, in the real one."""
    full_refresh: bool
    """Forget cursors: fetch everything again."""

    @property
    def notified(self) -> bool:
        """Whether a queue tells of uploads."""
        ...

    def runtime(self, *, run_id: str | None = None, progress: Callable[[Progress], None] | None = None) -> Runtime:
        """Make what the engine works with."""
        ...


def platform_of(context: dg.AssetExecutionContext | dg.SensorEvaluationContext) -> Platform:
    """Give the step's platform."""
    return cast("Platform", getattr(context.resources, RESOURCE))


class LogProgress:
    """Put the engine's signs of life into the step's log: each stage once, then at most one line in ten seconds."""

    INTERVAL = 10.0

    def __init__(self, log: dg.DagsterLogManager) -> None:
        self._log = log
        self._last: dict[tuple[str | None, str], float] = {}

    def __call__(self, progress: Progress) -> None:
        """Take one sign of life."""
        import time

        now = time.monotonic()
        key = (progress.stream, progress.stage)
        if progress.stage != "warning" and now - self._last.get(key, float("-inf")) < self.INTERVAL:
            return
        self._last[key] = now
        facts = {"rows": progress.rows, "bytes": progress.bytes, "requests": progress.requests, "of": progress.total}
        told = ", ".join(f"{value:,} {name}" for name, value in facts.items() if value is not None)
        name = f"{progress.source}.{progress.stream}" if progress.stream else progress.source
        line = f"{name}: " + " · ".join(part for part in (progress.stage, told, progress.message) if part)
        if progress.stage == "warning":
            self._log.warning(line)
        else:
            self._log.info(line)


@contextmanager
def reading(runtime: Runtime) -> Iterator[psycopg.Cursor[Any]]:
    """Open a cursor for what a report needs to know; nothing is written."""
    connection = runtime.connect()
    try:
        connection.read_only = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
