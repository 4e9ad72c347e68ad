"""What moves a source: its three jobs, its schedule, and for watched folders the sensor that sees new files.

All of them run without a click. A job covers the source and everything downstream of it, so that a new file arrives
in the marts in one run.
"""

# No postponed annotations here: Dagster reads those of `context` as they are.
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.components import naming
from dagster_project.components.landing import lanes
from dagster_project.components.platform import RESOURCE, platform_of, reading
from dagster_project.components.schedule import usable_cron
from dagster_project.components.uploads import look
from dagster_project.ingest.cards.base import SourceCard
from dagster_project.ingest.cards.file import FileSourceCard

if TYPE_CHECKING:
    from dagster_project.ingest.runtime import Runtime

SENSOR_SECONDS = 5
"""Between two looks at a watched folder."""
FIRST_RUN_SECONDS = 60
"""Within this the first run of a new installation is there, or there is none."""


def jobs(card: SourceCard) -> dict[str, object]:
    """Build the jobs of a source by name: load what is landed; fetch first; load landed bytes again."""
    raw = dg.AssetSelection.assets(*(naming.raw_key(card, stream.name) for stream in card.all_streams))
    landing = dg.AssetSelection.assets(naming.landing_key(card.source))
    tags = {"source": card.source}
    others = dg.AssetSelection.assets(*(naming.lane_key(card.source, n) for n in range(2, lanes(card) + 1)))
    backlog = {
        naming.backlog_job(card.source): dg.define_asset_job(
            naming.backlog_job(card.source),
            landing.downstream() | others,
            description=f"Land a backlog of {card.source} in several steps, load it, then everything downstream.",
            tags=tags,
        )
    }
    replay = {"ops": {naming.load_op(card.source): {"config": {"replay": "all"}}}}
    return {
        **(backlog if lanes(card) > 1 else {}),
        naming.load_job(card.source): dg.define_asset_job(
            naming.load_job(card.source),
            raw.downstream(),
            description=f"Load what {card.source} has landed, then everything downstream.",
            tags=tags,
        ),
        naming.fetch_job(card.source): dg.define_asset_job(
            naming.fetch_job(card.source),
            landing.downstream(),
            description=f"Fetch {card.source}, load it, then everything downstream.",
            tags=tags,
        ),
        naming.replay_job(card.source): dg.define_asset_job(
            naming.replay_job(card.source),
            raw.downstream(),
            description=f"Load {card.source}'s landed bytes again, without network, then everything downstream.",
            tags=tags,
            config=replay,
        ),
    }


def schedule(card: SourceCard) -> dg.ScheduleDefinition | None:
    """Build the schedule of a source, where its card has one."""
    cron = usable_cron(card)
    if cron is None or card.schedule is None:
        return None
    return dg.ScheduleDefinition(
        name=f"{card.source}_schedule",
        job_name=naming.fetch_job(card.source),
        cron_schedule=cron,
        execution_timezone=card.schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Reads {card.source}: cron {cron} ({card.schedule.timezone}).",
    )


def folder_sensor(card: FileSourceCard, targets: Sequence[Any]) -> dg.SensorDefinition:
    """Build the sensor of a watched folder.

    A file is written into the landing log as announced, then a run is asked for; the log decides what is new, not the
    run key. The key is ``<landing id>:<attempt>``: the same announcement never runs twice. What is landed and failed
    to load is tried again once a file of the folder is touched (``again``), or by any later run of the source.
    A bucket is listed as often as its card says, unless the sensor ``uploads`` serves it.

    Args:
        card: Of the files.
        targets: The jobs that it may ask for: the one that fetches, and the one for a backlog.
    """

    @dg.sensor(
        name=f"{card.source}_arrivals",
        jobs=list(targets),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE},
        description=f"Loads files as they arrive in {card.source}'s folder.",
    )
    def arrivals(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from dagster_project.ingest.fetch.arrivals import announce_arrivals
        from dagster_project.ingest.inbox.consume import routes_of

        if waits_for_first_run(context):
            yield dg.SkipReason("the installation is new, and its first run reads the folder too")
            return
        platform = platform_of(context)
        runtime = platform.runtime()
        for route in routes_of([card], runtime):
            asked: list[dg.RunRequest] = [] if platform.notified else look(context, route, runtime)
            why = "the sensor `uploads` serves this bucket" if platform.notified else "no new object"
            yield from asked
            if not asked:
                yield dg.SkipReason(why)
            return
        found = announce_arrivals(card, runtime)
        if not found:
            key = again(card, runtime)
            if key is None:
                yield dg.SkipReason("no new file")
            else:
                yield dg.RunRequest(run_key=key, job_name=naming.fetch_job(card.source), tags={"bindery/again": "true"})
            return
        newest = found[-1]
        yield dg.RunRequest(
            run_key=f"{newest.landing_id}:{newest.attempt}",
            job_name=naming.fetch_job(card.source),
            tags={"bindery/arrivals": str(len(found)), "bindery/newest_file": newest.origin[-200:]},
        )

    return arrivals


def waits_for_first_run(context: dg.SensorEvaluationContext) -> bool:
    """Say whether an installation is new and its first run isn't over: models beside this source have no tables yet.

    Where no first run appears within a minute (somebody turned its sensor off), nothing waits for one.
    """
    repository = context.repository_def
    if (
        (context.cursor or "").startswith(("settled", "{"))
        or repository is None
        or not repository.has_sensor_def(naming.FIRST_RUN)
    ):
        return False
    first = context.instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": naming.FIRST_RUN}), limit=1)
    looks = int(context.cursor or 0) + 1
    waits = not first[0].is_finished if first else looks * SENSOR_SECONDS < FIRST_RUN_SECONDS
    context.update_cursor(str(looks) if waits else "settled")
    return waits


def again(card: FileSourceCard, runtime: "Runtime") -> str | None:
    """Give the run key of another try: a load failed, its files still wait, and somebody touched one since.

    The bytes may be the same, so the landing log sees nothing new; touching is how a person says "once more".
    """
    from datetime import UTC, datetime

    from dagster_project.ingest.fetch.files import folder_of
    from dagster_project.ingest.fetch.folder import find_files

    with reading(runtime) as cursor:
        cursor.execute(
            "select max(b.batch_id), (select max(l.finished_at) from bindery.loads l where l.source = b.source) "
            "from bindery.batches b where b.source = %s and b.status = 'sealed' "
            "and not exists (select from bindery.load_batches t where t.batch_id = b.batch_id) "
            "and (select l.status from bindery.loads l where l.source = b.source order by l.load_id desc limit 1) "
            "= 'failed' group by b.source",
            (card.source,),
        )
        row = cursor.fetchone()
    if row is None or row[1] is None:
        return None
    folder = folder_of(card, runtime.text(card.path), runtime.base)
    files = (
        found for stream in card.streams for found in (find_files(folder, stream.patterns) if folder.is_dir() else ())
    )
    touched = max((found.mtime_ns for found in files), default=0)
    if datetime.fromtimestamp(touched / 1e9, UTC) <= row[1]:
        return None
    return f"again:{row[0]}:{touched}"
