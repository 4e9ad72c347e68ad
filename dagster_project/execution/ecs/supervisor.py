"""Brings tasks and runs into agreement: ends orphans, fails runs whose task never came up, finishes cancellations.

One idempotent look at what ECS and Dagster say, made by a sensor of the daemon (operations/ecs_tasks.py), so that it
costs no task of its own. Tasks of others in the cluster are never touched: listings stay within the cluster, go through
every page and are filtered by our tags. A run whose worker died in its middle is Dagster's own monitoring's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter

from dagster_project.execution import labels
from dagster_project.execution.diagnosis import LINES
from dagster_project.execution.ecs.cluster import Cluster, Task, age_seconds, tags_of
from dagster_project.execution.ecs.diagnosis import death_of, explain_run

LAST_WORDS_SECONDS = 60.0
"""How long steps of a run that succeeded may still be up: they have reported their end, and note what they used."""
YOUNG_SECONDS = 60.0
"""A task this young whose run nobody knows is left alone: its run may be in a transaction."""
ARN_TAG = "ecs/task_arn"
PAGE = 100
_COMING = [DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]


@dataclass
class Sweep:
    """What one look did."""

    looked_at: int = 0
    ended: list[str] = field(default_factory=list)
    """Tasks."""
    failed: list[str] = field(default_factory=list)
    """Runs."""
    canceled: list[str] = field(default_factory=list)


def sweep(cluster: Cluster, instance: DagsterInstance, *, now: float | None = None) -> Sweep:
    """Look once.

    Args:
        cluster: Where, and whose tasks.
        instance: Dagster's.
        now: The time, for tests.
    """
    done = Sweep()
    _end_orphans(cluster, instance, done, now or time.time())
    _settle_runs(cluster, instance, done)
    return done


def _end_orphans(cluster: Cluster, instance: DagsterInstance, done: Sweep, now: float) -> None:
    records: dict[str, RunRecord | None] = {}
    for task in cluster.ours():
        marks = tags_of(task)
        run_id = marks.get(labels.RUN)
        if run_id is None or marks.get(labels.KIND) not in {"run", "step"}:
            continue
        done.looked_at += 1
        if run_id not in records:
            records[run_id] = instance.get_run_record_by_id(run_id)
        record = records[run_id]
        if not _is_orphan(task, record, now):
            continue
        arn = str(task["taskArn"])
        if cluster.stop(arn, f"its run {run_id} is over"):
            done.ended.append(arn)
            if record is not None:
                said = f"Ended the task {arn.rpartition('/')[2]}: its run is over."
                instance.report_engine_event(said, dagster_run=record.dagster_run)


def _is_orphan(task: Task, record: RunRecord | None, now: float) -> bool:
    if record is None:
        return age_seconds(task) > YOUNG_SECONDS
    run = record.dagster_run
    if not run.is_finished:
        return False
    just_now = record.end_time is not None and now - record.end_time < LAST_WORDS_SECONDS
    return not (run.status == DagsterRunStatus.SUCCESS and just_now)


def _settle_runs(cluster: Cluster, instance: DagsterInstance, done: Sweep) -> None:
    """End the runs that Dagster would wait for until a timeout: their task has ended."""
    cursor: str | None = None
    while runs := instance.get_runs(RunsFilter(statuses=_COMING), limit=PAGE, cursor=cursor):
        cursor = runs[-1].run_id
        arns = {run.tags[ARN_TAG]: run for run in runs if ARN_TAG in run.tags}
        for arn, task in cluster.describe(arns).items():
            if task.get("lastStatus") == "STOPPED":
                _settle(cluster, instance, arns[arn], task, done)


def _settle(cluster: Cluster, instance: DagsterInstance, known: DagsterRun, task: Task, done: Sweep) -> None:
    run = instance.get_run_by_id(known.run_id)
    if run is None or run.status not in _COMING:
        return  # its last event came while we looked
    if run.status == DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, "The task of its worker has ended.")
        done.canceled.append(run.run_id)
        return
    lines = cluster.last_lines(task, LINES)
    instance.report_run_failed(run, explain_run(death_of(task), lines, str(task["taskArn"]), begun=False))
    done.failed.append(run.run_id)
