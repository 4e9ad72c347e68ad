"""Size minimal: the platform puts itself to sleep when nothing is left to do.

Runs in a container beside webserver, daemon and code server. Runs and steps are tasks of their own, and would go on
without it; but what queues, retries and watches them is the daemon, so it stays awake until the last one has ended.
What wakes it is EventBridge's and CloudWatch's: the clock, and uploads that wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.operations.deploy import services

if TYPE_CHECKING:
    from dagster import DagsterInstance

LOOK_SECONDS = 30.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Platform:
    """What is looked at, and what is put to sleep."""

    instance: DagsterInstance
    ecs: Any
    sqs: Any
    cluster: str
    service: str
    queue: str | None


def busy_with(platform: Platform) -> str | None:
    """Say what keeps the platform awake, or None where nothing does."""
    from dagster import DagsterRunStatus, RunsFilter
    from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

    going = [
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.QUEUED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]
    runs = platform.instance.get_runs_count(RunsFilter(statuses=going))
    if runs:
        return f"{runs} runs"
    unfinished = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING])
    if platform.instance.get_backfills(filters=unfinished, limit=1):
        return "a backfill"
    if platform.queue:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = platform.sqs.get_queue_attributes(QueueUrl=platform.queue, AttributeNames=names)["Attributes"]
        waiting = sum(int(told[name]) for name in names)
        if waiting:
            return f"{waiting} uploads"
    until = services.awake_until(services.look(platform.ecs, platform.cluster, platform.service))
    return "a visitor (bindery deploy aws wake)" if until > time.time() else None


def rest(
    platform: Platform,
    after: float,
    say: Say,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Watch until nothing was to do for so long, then ask ECS for no task at all.

    Args:
        platform: What is looked at.
        after: Seconds of idleness.
        say: Takes a line.
        clock: Seconds that only grow.
        sleep: Waits.
    """
    idle_since, last = clock(), ""
    while clock() - idle_since < after:
        try:
            reason = busy_with(platform)
        except Exception as error:  # noqa: BLE001 - a database that restarts must not end the platform
            reason = f"something that can't be looked at: {error}"
        if reason is not None:
            idle_since = clock()
        if (reason or "") != last:
            last = reason or ""
            say(f"awake for {reason}" if reason else f"idle; sleeps in {after:.0f} s")
        sleep(LOOK_SECONDS)
    say("goes to sleep")
    platform.ecs.update_service(cluster=platform.cluster, service=platform.service, desiredCount=0)
