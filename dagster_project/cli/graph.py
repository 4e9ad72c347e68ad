"""How a run of the whole graph looks on a terminal: live lines, one table at the end, where to look next."""

from __future__ import annotations

import json
import shutil
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from dagster_project.cli.context import command
from dagster_project.cli.progress import counted

if TYPE_CHECKING:
    from dagster_project.operations.summary import AssetResult, RunEvent, RunSummary
    from dagster_project.settings import Settings

MARKS = {"done": "✓", "failed": "✗", "skipped": "·", "waiting": " ", "running": "…"}
COLOURS = {"done": "green", "failed": "red", "skipped": "yellow"}


class GraphWatcher:
    """Show the run's signs of life: a line for each step that starts, ends, fails; JSON lines for machines."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._started = time.monotonic()
        self._live = not as_json and sys.stderr.isatty()
        self._running: dict[str, float] = {}

    def __enter__(self) -> Self:
        if not self._as_json:
            click.echo("getting ready: Postgres, dbt's manifest, the graph", err=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def __call__(self, event: RunEvent) -> None:
        """Take one sign of life."""
        if self._as_json:
            found: dict[str, Any] = {"event": event.kind, "step": event.step, "message": event.message}
            if event.asset is not None:
                found |= {"asset": event.asset.key, "rows": event.asset.rows, "counts": event.asset.counts}
            print(json.dumps({k: v for k, v in found.items() if v is not None}), file=sys.stderr, flush=True)
            return
        self._clear()
        line = self._line(event)
        if line:
            seconds = time.monotonic() - self._started
            click.echo(f"{seconds:6.1f} s  [{event.done:>2}/{event.total}]  {line}", err=True)
        if self._live and self._running:
            width = shutil.get_terminal_size().columns - 1
            click.secho(f"          working on {', '.join(self._running)}"[:width], dim=True, nl=False, err=True)

    def _line(self, event: RunEvent) -> str | None:
        step = event.step or ""
        if event.kind == "step_started":
            self._running[step] = time.monotonic()
            return None
        if event.kind in {"step_done", "step_failed", "step_skipped", "step_retry"}:
            seconds = time.monotonic() - self._running.pop(step, time.monotonic())
            if event.kind == "step_done":
                return f"{click.style('✓', fg='green')} {step} ({seconds:.1f} s)"
            if event.kind == "step_skipped":
                return f"{click.style('·', fg='yellow')} {step} skipped: something before it failed"
            first = (event.message or "").strip().splitlines()
            said = first[0] if first else "see the log"
            ended = "tries again" if event.kind == "step_retry" else "failed"
            return f"{click.style('✗', fg='red')} {step} {ended}: {said}"
        if event.kind == "check" and event.message:
            return f"{click.style('!', fg='yellow')} {event.asset.key if event.asset else step}: {event.message}"
        return None

    def _clear(self) -> None:
        if self._live:
            click.echo("\r\x1b[2K", nl=False, err=True)


def show_summary(summary: RunSummary, settings: Settings, *, as_json: bool) -> None:
    """Print what the run made, what failed and why, and where to look next."""
    if as_json:
        print(json.dumps({"event": "result", **_plain(summary)}, default=str))
        return
    rows = [("", "asset", "rows", "what changed", "checks", "s")]
    rows += [_row(asset) for asset in summary.assets]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    right = {2, 5}
    click.echo()
    for number, row in enumerate(rows):
        cells = [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(row)]
        asset = summary.assets[number - 1] if number else None
        if asset is None:
            click.secho("  ".join(cells), bold=True)
            continue
        cells[0] = click.style(cells[0], fg=COLOURS.get(asset.status))
        click.echo("  ".join(cells).rstrip())
    click.echo(f"\n{_totals(summary)}")
    if (said := _incremental(summary)) is not None:
        click.echo(said)
    if summary.recovered_runs:
        click.echo(f"{len(summary.recovered_runs)} earlier run(s) had died and were marked as failed")
    for asset in summary.assets:
        for text in asset.warned:
            click.secho(f"warning  {asset.key}: {text}", fg="yellow")
    _show_failures(summary)
    if summary.success:
        _show_next(summary, settings)


def _totals(summary: RunSummary) -> str:
    """Say in a line how many assets and how many checks ended how."""
    ended = summary.ended
    assets = f"{ended.get('done', 0)} of {len(summary.assets)} assets done"
    assets += "".join(f", {ended[status]} {status}" for status in ("failed", "skipped") if status in ended)
    passed, warned, failed = summary.checks
    checks = f"checks: {passed} passed, {warned} warned, {failed} failed"
    return f"{assets}; {checks}; {summary.seconds:.1f} s, database {summary.database}"


def _row(asset: AssetResult) -> tuple[str, str, str, str, str, str]:
    counts = [
        counted(value, name.removesuffix("s")) if name in {"objects", "requests"} else f"{value:,} {name}"
        for name, value in asset.counts.items()
        if value and name != "rows_read"
    ]
    checks = f"{asset.passed} passed" if asset.passed else ""
    if asset.warned:
        checks += f" {len(asset.warned)} warned"
    if asset.failed:
        checks += f" {len(asset.failed)} failed"
    return (
        MARKS[asset.status],
        asset.key,
        "" if asset.rows is None else f"{asset.rows:,}",
        ", ".join(counts),
        checks.strip(),
        "" if asset.seconds is None else f"{asset.seconds:.1f}",
    )


def _incremental(summary: RunSummary) -> str | None:
    """Say in a sentence what an incremental run did to the raw tables."""
    raw = [asset for asset in summary.assets if asset.key.startswith("raw/") and asset.status == "done"]
    total = {
        name: sum(asset.counts.get(name, 0) for asset in raw)
        for name in ("inserted", "updated", "unchanged", "deleted")
    }
    if not raw:
        return None
    changed = total["inserted"] + total["updated"] + total["deleted"]
    if not changed:
        return f"nothing new: no row of the raw tables was touched ({total['unchanged']:,} read again and unchanged)"
    return "raw tables: " + ", ".join(f"{value:,} {name}" for name, value in total.items() if value)


def _show_failures(summary: RunSummary) -> None:
    if summary.success:
        return
    click.echo()
    for failure in summary.failures:
        click.secho(f"failed: {failure.step}", fg="red", bold=True)
        click.echo(_indent(failure.message))
    for asset, text in summary.failed_checks:
        click.secho(f"check failed: {asset.key}: {text}", fg="red")
    if summary.interrupted:
        click.secho("interrupted", fg="red")
    again = "make run DEBUG=1" if summary.debug_rows else "make run"
    click.echo(f"\nWhat was loaded is whole; nothing is half-written. Run again to go on: `{again}`")


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[:20])


def _show_next(summary: RunSummary, settings: Settings) -> None:
    click.echo("\nLook next:")
    if summary.debug_rows:
        opened = f"{command()} db psql --database {summary.database}"
        click.echo(f"  {opened}   the scratch tables ({summary.debug_rows} rows a stream)")
        return
    drop = settings.drop_path / "ratings"
    click.echo("  make dev                 the lineage graph on http://localhost:3000")
    click.echo("  make psql                the tables: select * from marts.book_popularity limit 10;")
    if settings.sources == "sample":
        from dagster_project.sample import status

        world = status(settings.data_dir / "sample")
        further = f"make run REVISION={(world.revision if world is not None else settings.revision) + 1}"
        click.echo(f"  {further:<24} the sample world moves on")
    click.echo(f"  cp ratings.csv {drop}/   with make dev running: in the marts within a minute")
    if any(asset.counts.get("quarantined") for asset in summary.assets):
        click.echo(f"  {command()} quarantine   the rows that were refused, and why")


def _plain(summary: RunSummary) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(summary), "success": summary.success, "exit_code": summary.exit_code}
