"""What moves uploads: one sensor for all buckets, which takes notifications, lists what they lost, and asks for runs.

A run is asked for per source, under the key ``<landing id>:<attempt>`` of what waits: asked for twice, it runs once.
While a run of the source is under way none is asked for; what arrives meanwhile waits, and the next run takes all of
it, so that a backlog makes runs larger and not more of them (docs/decisions/0051).
"""

# No postponed annotations here: Dagster reads those of `context` as they are.
import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.components import naming
from dagster_project.components.landing import LANES_TAG
from dagster_project.components.platform import RESOURCE, platform_of
from dagster_project.ingest.cards.file import FileSourceCard

if TYPE_CHECKING:
    from dagster_project.ingest.inbox.consume import Route
    from dagster_project.ingest.inbox.log import Waiting
    from dagster_project.ingest.runtime import Runtime

NAME = "uploads"
SENSOR_SECONDS = 5
CONSUME_SECONDS = 15.0
"""Of a tick; the code server ends ticks that take longer than a minute."""
LIST_SECONDS = 20.0
DEAD_AFTER = 24 * 3600.0
"""A run that says so long that it is under way holds nobody up any more."""
UNDER_WAY = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def uploads_sensor(
    cards: Sequence[FileSourceCard], jobs: Sequence[Any], queue_url: str, *, wait: float = 10.0
) -> dg.SensorDefinition:
    """Build the sensor of all uploads.

    Args:
        cards: Of files; those that turn out to read a bucket are served.
        jobs: Every job of theirs that fetches.
        queue_url: Where notifications come from.
        wait: Seconds that a tick waits for the first one.
    """

    @dg.sensor(
        name=NAME,
        jobs=list(jobs),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE},
        description="Takes notifications of uploads from the queue, lists what they lost, and asks for runs.",
    )
    def uploads(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from dagster_project.ingest.inbox.consume import consume, routes_of

        runtime = platform_of(context).runtime()
        routes = routes_of(cards, runtime)
        done = consume(routes, runtime, queue_url, seconds=CONSUME_SECONDS, wait=wait)
        for note in done.notes:
            context.log.warning(note)
        if done.messages:
            context.log.info(
                f"{done.messages} messages: {done.announced} new objects, {done.known} known, {done.removed} removed, "
                f"{done.elsewhere} wanted by no card, {done.poison} not understood"
            )
        # A tick has a minute for all of them.
        seconds = LIST_SECONDS / max(len(routes), 1)
        asked = [request for route in routes for request in look(context, route, runtime, seconds)]
        yield from asked
        if not asked:
            yield dg.SkipReason("nothing waits for a run")

    return uploads


def look(
    context: dg.SensorEvaluationContext, route: "Route", runtime: "Runtime", seconds: float = LIST_SECONDS
) -> list[dg.RunRequest]:
    """List a bucket where that is due, and ask for a run where something waits and none is under way."""
    from dagster_project.ingest.inbox import log
    from dagster_project.ingest.inbox.reconcile import reconcile

    card = route.card
    busy = is_under_way(context.instance, card)
    cursor = context.cursor or ""
    state: dict[str, Any] = json.loads(cursor) if cursor.startswith("{") else {}
    mine = state.get(card.source, {})
    after = tuple(mine["after"]) if mine.get("after") else None
    due = after is not None or time.time() - mine.get("listed", 0.0) >= card.reconcile
    with runtime.connect() as connection:
        connection.autocommit = True
        if due:
            found, rest = reconcile(route, runtime, seconds=seconds, after=after)
            if found:
                context.log.info(f"{card.source}: a list of {route.place} found {found} objects nobody had reported")
            state[card.source] = {"listed": time.time(), "after": rest}
            context.update_cursor(json.dumps(state))
            if not busy:
                log.try_again(connection, card.source, card.reconcile)
        waiting = None if busy else log.waiting(connection, card.source)
    if waiting is None:
        return []
    return [request(context, card, waiting)]


def request(context: dg.SensorEvaluationContext, card: FileSourceCard, waiting: "Waiting") -> dg.RunRequest:
    """Ask for a run; where the backlog is worth several steps, for one that lands it in so many."""
    shares = min(card.tasks, -(-waiting.announced // card.per_task))
    run_key = f"{card.source}:{waiting.run_key}"
    tags = {"bindery/arrivals": str(waiting.objects)}
    if shares <= 1:
        config = {"ops": {naming.fetch_op(card.source): {"config": {"arrivals": True}}}}
        return dg.RunRequest(run_key=run_key, job_name=naming.fetch_job(card.source), run_config=config, tags=tags)
    job = naming.backlog_job(card.source)
    selection: list[dg.AssetKey] | None = None
    if context.repository_def is not None:
        idle = {naming.lane_key(card.source, lane) for lane in range(shares + 1, card.tasks + 1)}
        keys = context.repository_def.get_job(job).asset_layer.selected_asset_keys
        selection = sorted(keys - idle, key=str)
    return dg.RunRequest(
        run_key=run_key,
        job_name=job,
        asset_selection=selection,
        tags={**tags, LANES_TAG: str(shares if selection is not None else card.tasks)},
    )


def is_under_way(instance: dg.DagsterInstance, card: FileSourceCard) -> bool:
    """Tell whether a run of a source's files waits or runs. Those that died without a word are left out in the end."""
    now = time.time()
    return any(
        now - record.update_timestamp.timestamp() < DEAD_AFTER
        for job in (naming.fetch_job(card.source), naming.backlog_job(card.source))
        for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=UNDER_WAY), limit=20)
    )
