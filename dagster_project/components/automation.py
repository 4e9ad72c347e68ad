"""What moves a source: its three jobs, its schedule, and for watched folders the sensor that sees new files.

All of them run without a click. A job covers the source and everything downstream of it, so that a new file arrives
in the marts in one run.
"""

# No postponed annotations here: Dagster reads those of `context` as they are.
from collections.abc import Iterator

import dagster as dg

from dagster_project.components import naming
from dagster_project.components.platform import RESOURCE, platform_of
from dagster_project.components.schedule import usable_cron
from dagster_project.ingest.cards.base import SourceCard
from dagster_project.ingest.cards.file import FileSourceCard

SENSOR_SECONDS = 5
"""Between two looks at a watched folder."""


def jobs(card: SourceCard) -> dict[str, object]:
    """Build the jobs of a source by name: load what is landed; fetch first; load landed bytes again."""
    raw = dg.AssetSelection.assets(*(naming.raw_key(card, stream.name) for stream in card.all_streams))
    landing = dg.AssetSelection.assets(naming.landing_key(card.source))
    tags = {"source": card.source}
    replay = {"ops": {naming.load_op(card.source): {"config": {"replay": "all"}}}}
    return {
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


def folder_sensor(card: FileSourceCard) -> dg.SensorDefinition:
    """Build the sensor of a watched folder.

    A file is written into the landing log as announced, then a run is asked for; the log decides what is new, not the
    run key. The key is ``<landing id>:<attempt>``: the same announcement never runs twice, and one whose load failed
    runs again once its attempt was raised (the file was touched, or `bindery retry`).
    """

    @dg.sensor(
        name=f"{card.source}_arrivals",
        job_name=naming.fetch_job(card.source),
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={RESOURCE},
        description=f"Loads files as they arrive in {card.source}'s folder.",
    )
    def arrivals(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from dagster_project.ingest.fetch.arrivals import announce_arrivals

        found = announce_arrivals(card, platform_of(context).runtime())
        if not found:
            yield dg.SkipReason("no new file")
            return
        newest = found[-1]
        yield dg.RunRequest(
            run_key=f"{newest.landing_id}:{newest.attempt}",
            tags={"bindery/arrivals": str(len(found)), "bindery/newest_file": newest.origin[-200:]},
        )

    return arrivals
