"""Runs that failed since the last look, and runs that show that an earlier failure is over.

Each finished run is taken once, in the order in which they ended. Where the look before stopped is a cursor of the
sensor's; it reaches back a little, because runs end in several processes whose clocks and commits overlap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dagster_project.operations.alerts.alert import Alert
from dagster_project.operations.alerts.conditions import when

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

OVERLAP = timedelta(minutes=2)
FIRST_LOOK = timedelta(minutes=10)
"""How far back the first look of a new installation goes."""
MOST_RUNS = 1000
"""In one look; the next goes on."""
NAMED_STEPS = 5
ASSETS_JOBS = ("__ASSET_JOB", "__ephemeral_asset_job__")
"""Names that Dagster gives to runs of chosen assets: they say nothing, so the steps do."""
WILL_RETRY = "dagster/will_retry"
PREFIX, ASSETS_PREFIX = "run:", "run:assets:"


@dataclass(slots=True)
class Finished:
    """What the runs that ended since the last look mean."""

    raised: dict[str, Alert] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where runs have been taken."""

    since: datetime
    seen: frozenset[str] = frozenset()
    """Runs that ended within the overlap and are taken already."""

    @classmethod
    def read(cls, text: str | None, now: datetime) -> Cursor:
        """Read what ``write`` gave; a look without one begins a little before now."""
        if not text:
            return cls(now - FIRST_LOOK)
        told = json.loads(text)
        return cls(datetime.fromisoformat(told["since"]), frozenset(told["seen"]))

    def write(self) -> str:
        """Give it as text."""
        return json.dumps({"since": self.since.isoformat(), "seen": sorted(self.seen)})


def finished_runs(
    instance: DagsterInstance,
    cursor: Cursor,
    open_keys: Callable[[], Collection[str]],
    ui_url: str | None = None,
) -> tuple[Finished, Cursor]:
    """Take the runs that ended since the cursor.

    Args:
        instance: Where runs are kept.
        cursor: Where the last look stopped.
        open_keys: Gives the keys of failures of assets that aren't over; asked only where it matters.
        ui_url: Where people open the UI.
    """
    from dagster import DagsterRunStatus, RunsFilter

    records = instance.get_run_records(
        RunsFilter(statuses=[DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS], updated_after=cursor.since - OVERLAP),
        limit=MOST_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    found, newest, seen = Finished(), cursor.since, dict.fromkeys(cursor.seen, cursor.since)
    waiting: set[str] | None = None
    for record in records:
        run, updated = record.dagster_run, record.update_timestamp.astimezone(UTC)
        newest = max(newest, updated)
        ended = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else updated
        # A tag that is put on an old run makes it look new.
        if run.run_id in cursor.seen or ended < cursor.since - OVERLAP:
            continue
        seen[run.run_id] = updated
        if run.status is DagsterRunStatus.FAILURE:
            if run.tags.get(WILL_RETRY) != "true":
                alert = failure(instance, run, ended, ui_url)
                found.raised[alert.key] = alert
                found.over.discard(alert.key)
            continue
        good = {f"{PREFIX}{run.job_name}"}
        waiting = {key for key in open_keys() if key.startswith(ASSETS_PREFIX)} if waiting is None else waiting
        good |= succeeded(instance, run, waiting | {key for key in found.raised if key.startswith(ASSETS_PREFIX)})
        for key in good:
            found.raised.pop(key, None)
        found.over |= good
    # Only as much as the next look can meet again.
    kept = frozenset(run_id for run_id, updated in seen.items() if updated >= newest - 2 * OVERLAP)
    return found, Cursor(newest, kept)


def failure(instance: DagsterInstance, run: DagsterRun, ended: datetime, ui_url: str | None) -> Alert:
    """Describe a failed run by its steps and the kinds of their errors."""
    steps = failed_steps(instance, run.run_id)
    names = sorted(steps)
    key = f"{ASSETS_PREFIX}{','.join(names)}" if run.job_name in ASSETS_JOBS else f"{PREFIX}{run.job_name}"
    shown = [f"{name} ({steps[name]})" if steps[name] else name for name in names[:NAMED_STEPS]]
    more = f" and {len(names) - NAMED_STEPS} more" if len(names) > NAMED_STEPS else ""
    lines = [f"Run {run.run_id} failed at {when(ended.timestamp())}."]
    lines.append(f"Failed steps: {', '.join(shown)}{more}." if names else "No step of it failed: the run itself ended.")
    lines.append(f"{ui_url.rstrip('/')}/runs/{run.run_id}" if ui_url else "Its page in the UI has the reason.")
    title = (
        f"a run of {', '.join(names[:2]) or 'assets'} failed"
        if run.job_name in ASSETS_JOBS
        else (f"a run of {run.job_name} failed")
    )
    return Alert(key, "run", title, "\n".join(lines))


def failed_steps(instance: DagsterInstance, run_id: str) -> dict[str, str]:
    """Give the failed steps with the kind of each one's error; its text may quote what somebody's file holds."""
    from dagster import DagsterEventType

    found: dict[str, str] = {}
    for record in instance.get_records_for_run(run_id, of_type=DagsterEventType.STEP_FAILURE).records:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            continue
        data = event.step_failure_data
        stated = data.user_failure_data.metadata.get("error") if data.user_failure_data else None
        # Dagster wraps what a step raises in an error of its own.
        cause = data.error.cause or data.error if data.error else None
        kind = str(stated.value) if stated is not None else cause.cls_name or "" if cause else ""
        found[event.step_key] = kind if kind.isidentifier() else ""
    return found


def succeeded(instance: DagsterInstance, run: DagsterRun, waiting: set[str]) -> set[str]:
    """Give those of the failures of assets whose steps have all succeeded in a run."""
    from dagster._core.execution.stats import StepEventStatus

    if not waiting:
        return set()
    good = {each.step_key for each in instance.get_run_step_stats(run.run_id) if each.status is StepEventStatus.SUCCESS}
    return {key for key in waiting if set(filter(None, key.removeprefix(ASSETS_PREFIX).split(","))) <= good}
