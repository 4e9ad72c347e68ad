"""Signs of life on a terminal: a line a stream while it works; plain lines in a pipe; JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from dagster_project.ingest.runtime import Progress

PLAIN_INTERVAL = 5.0
"""Seconds between two plain lines of one stream."""


class Watcher:
    """Show the engine's progress; used as a context manager around the work."""

    def __init__(self, *, as_json: bool) -> None:
        """Choose the way: bars on a terminal, JSON lines when asked for, otherwise plain lines now and then."""
        self._show: Callable[[Progress], None]
        self._bars: Any = None
        self._tasks: dict[tuple[str, str | None], Any] = {}
        self._last: dict[tuple[str, str | None], tuple[str, float]] = {}
        self._held: dict[tuple[str, str | None], Progress] = {}
        """The newest sign of each stream that came too soon after a printed one."""
        if as_json:
            self._show = self._json
        elif sys.stderr.isatty():
            self._show = self._bar
        else:
            self._show = self._plain

    def __enter__(self) -> Self:
        if self._show == self._bar:
            from rich.console import Console
            from rich.progress import Progress as Bars
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bars = Bars(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.description}"),
                TextColumn("{task.fields[detail]}", style="dim"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._tell_held()

    def __call__(self, progress: Progress) -> None:
        """Take one sign of life."""
        self._show(progress)

    def _json(self, progress: Progress) -> None:
        fields = {name: getattr(progress, name) for name in progress.__slots__}
        print(json.dumps({"event": "progress", **{k: v for k, v in fields.items() if v is not None}}), file=sys.stderr)

    def _bar(self, progress: Progress) -> None:
        if progress.stage == "warning":
            self._bars.console.print(f"[yellow]warning[/] {title(progress)}: {progress.message}")
            return
        key = (progress.source, progress.stream)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(title(progress), total=None, detail="")
        self._bars.update(self._tasks[key], detail=detail(progress), total=progress.total)
        if progress.stage == "done":
            self._bars.update(self._tasks[key], total=1, completed=1)

    def _plain(self, progress: Progress) -> None:
        key, now = (progress.source, progress.stream), time.monotonic()
        stage, at = self._last.get(key, ("", 0.0))
        if progress.stage == "warning":
            self._print(progress)
            return
        if progress.stage == "done" and progress.stream is None:
            self._tell_held(progress.source)
        if progress.stage == "done" or stage != progress.stage or now - at >= PLAIN_INTERVAL:
            self._last[key] = (progress.stage, now)
            held = self._held.pop(key, None)
            if held is not None and held.stage != progress.stage:
                self._print(held)  # how a stage ended, which is what people compare
            self._print(progress)
        else:
            self._held[key] = progress

    def _tell_held(self, source: str | None = None) -> None:
        """Print how the stages of the streams ended, before what is said of their source."""
        for key in [key for key in self._held if source in {None, key[0]}]:
            self._print(self._held.pop(key))

    def _print(self, progress: Progress) -> None:
        print(f"{title(progress)}: {detail(progress)}", file=sys.stderr, flush=True)


def title(progress: Progress) -> str:
    """Name what the sign is about."""
    return f"{progress.source}.{progress.stream}" if progress.stream else progress.source


def detail(progress: Progress) -> str:
    """Say how far it is, in words."""
    parts = [progress.stage]
    if progress.rows is not None:
        parts.append(counted(progress.rows, "row"))
    if progress.requests is not None:
        of = f"{progress.requests:,} of " if progress.total else ""
        parts.append(of + counted(progress.total or progress.requests, "request"))
    if progress.bytes is not None:
        parts.append(size(progress.bytes))
    if progress.message:
        parts.append(progress.message)
    return " · ".join(parts)


def counted(count: int, noun: str) -> str:
    """Write a number of things, one of them in the singular."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: float) -> str:
    """Write a number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
