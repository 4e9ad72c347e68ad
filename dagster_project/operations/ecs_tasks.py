"""The sensor that keeps ECS tasks and runs in agreement; what it does is in ``execution.ecs.supervisor``."""

# No postponed annotations here: Dagster reads those of a sensor's function as they are.
import dagster as dg

SECONDS = 30


def ecs_tasks() -> dg.SensorDefinition:
    """Make the sensor. It launches nothing; its ticks say what it ended."""

    @dg.sensor(
        name="ecs_tasks",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends tasks whose run is over, and runs whose task is gone.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from dagster_project.execution.ecs.cluster import Cluster
        from dagster_project.execution.ecs.supervisor import sweep
        from dagster_project.execution.ecs.tasks import Place
        from dagster_project.settings import get_settings

        done = sweep(Cluster.of(Place.of(get_settings())), context.instance)
        told = {"ended tasks": done.ended, "failed runs": done.failed, "canceled runs": done.canceled}
        said = "; ".join(f"{what}: {', '.join(names)}" for what, names in told.items() if names)
        if said:
            context.log.warning(said)
        return dg.SkipReason(said or f"{done.looked_at} tasks, all of runs under way")

    return look
