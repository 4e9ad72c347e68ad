"""The run that an installation in containers starts with, so that its first look shows a graph with data."""

# No postponed annotations here: Dagster reads those of a sensor's function as they are.
import dagster as dg

from dagster_project.components.naming import FIRST_RUN

RUN_KEY = "first-run"


def first_run(job_name: str) -> dg.SensorDefinition:
    """Make the sensor that launches the job once in the life of an installation."""

    @dg.sensor(
        name=FIRST_RUN,
        job_name=job_name,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=15,
        description="Launches the whole graph once, when an installation is new.",
    )
    def launch(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if context.cursor:
            return dg.SkipReason("There was a first run.")
        context.update_cursor(RUN_KEY)
        return dg.RunRequest(run_key=RUN_KEY)

    return launch
