"""Removing old runs from Dagster's storage, which nothing else does: their events, and their output on the disk.

What the UI still needs stays however old it is: the run of each asset's newest materialisation, and what would be asked
for again if its run were gone. Everything goes through the instance, run by run, so that it may be ended at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from dagster._core.storage.dagster_run import RunRecord

PAGE = 100
AGAIN = "bindery/again"
"""Of runs whose key keeps a folder's sensor from asking twice (components/automation.py); other keys never return."""


@dataclass(slots=True)
class Removed:
    """What was done, or would be."""

    runs: int = 0
    kept: int = 0
    """Old ones that are needed still."""


def remove_old_runs(
    instance: DagsterInstance, keep: timedelta, *, dry_run: bool = False, now: datetime | None = None
) -> Removed:
    """Remove finished runs that ended longer ago than ``keep``, with their events and output.

    Args:
        instance: Whose runs.
        keep: How long runs are kept.
        dry_run: Only count.
        now: The time, for tests.
    """
    before = (now or datetime.now(UTC)) - keep
    needed = needed_runs(instance)
    done = Removed()
    for record in old_runs(instance, before):
        run = record.dagster_run
        if run.run_id in needed or AGAIN in run.tags:
            done.kept += 1
            continue
        done.runs += 1
        if not dry_run:
            # Output first: a run that is gone has nobody who would look for it.
            instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            instance.delete_run(run.run_id)
    return done


def needed_runs(instance: DagsterInstance) -> set[str]:
    """Give the runs in which each asset was last materialised, observed, or planned to be."""
    needed: set[str] = set()
    for record in instance.get_asset_records():
        entry = record.asset_entry
        events = (entry.last_materialization_record, entry.last_observation_record)
        needed |= {event.run_id for event in events if event is not None}
        if entry.last_planned_materialization_run_id:
            needed.add(entry.last_planned_materialization_run_id)
    return needed


def old_runs(instance: DagsterInstance, before: datetime) -> Iterator[RunRecord]:
    """Give the finished runs that nothing has changed since, oldest first."""
    from dagster import DagsterRunStatus, RunsFilter

    ended = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
    filters = RunsFilter(statuses=ended, updated_before=before)
    page = instance.get_run_records(filters, limit=PAGE, ascending=True)
    while page:
        # Before this one is removed: the cursor is a run, and has to be there.
        cursor = page[-1].dagster_run.run_id
        following = instance.get_run_records(filters, limit=PAGE, ascending=True, cursor=cursor)
        yield from page
        page = following
