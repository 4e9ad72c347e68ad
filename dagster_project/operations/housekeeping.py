"""The job that removes old runs by itself, once a day; what is removed and what stays is in ``run_retention``."""

# No postponed annotations here: Dagster reads those of an op's function as they are.
import dagster as dg

from dagster_project.settings import get_settings

JOB = "remove_old_runs"
DAILY = "45 2 * * *"
"""When, in UTC: before the day's first schedules."""


@dg.op(name="old_runs", description="Remove runs that ended longer ago than BINDERY_KEEP_RUNS, with all they wrote.")
def remove(context: dg.OpExecutionContext) -> None:
    """Do what ``bindery retention`` does."""
    from datetime import timedelta
    from typing import cast

    from dagster_project.ingest.durations import parse_duration
    from dagster_project.operations.run_retention import remove_old_runs

    keep = get_settings().keep_runs
    done = remove_old_runs(context.instance, timedelta(seconds=cast("float", parse_duration(keep))))
    context.log.info(f"removed {done.runs:,} runs older than {keep}; {done.kept:,} older ones are needed still")
    context.add_output_metadata({"removed": done.runs, "kept": done.kept})


@dg.job(name=JOB, description="Removes what nobody removes otherwise: runs of long ago, and all they wrote.")
def housekeeping() -> None:
    """Remove old runs."""
    remove()


def schedule() -> dg.ScheduleDefinition:
    """Make the schedule; the job comes with it."""
    return dg.ScheduleDefinition(
        name=f"{JOB}_schedule",
        job=housekeeping,
        cron_schedule=DAILY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Removes runs older than BINDERY_KEEP_RUNS, once a day.",
    )
