"""The executor that gives each step an ECS task: Dagster's step delegation over ``EcsSteps``."""

# No postponed annotations here: Dagster reads those of an executor's function as they are.
from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.executor.step_delegating import StepDelegatingExecutor

POLL_SECONDS = 0.5
"""Between two looks at the event log. Each is one query on a connection that is kept."""
HEALTH_SECONDS = 5
"""Between two looks at the tasks: all of a run's in one question, within what AWS lets a region ask."""


@dg.executor(
    name="ecs",
    config_schema={
        "max_concurrent": dg.Field(int, default_value=10, description="Steps of one run at once."),
        "health_seconds": dg.Field(int, default_value=HEALTH_SECONDS, description="Between two looks at the tasks."),
        "retries": dg.Field({"enabled": dg.Field(bool, default_value=True)}, default_value={"enabled": True}),
    },
    requirements=dg.multiple_process_executor_requirements(),
)
def ecs_steps(context: dg.InitExecutorContext) -> "StepDelegatingExecutor":
    """Run each step in its own ECS task, with the image, CPU, memory and GPU that its op asks for."""
    from dagster._core.execution.retries import RetryMode
    from dagster._core.executor.step_delegating import StepDelegatingExecutor

    from dagster_project.execution.compute import classes
    from dagster_project.execution.ecs.cluster import Cluster
    from dagster_project.execution.ecs.step_handler import EcsSteps
    from dagster_project.execution.ecs.tasks import Place
    from dagster_project.execution.storage import keep_connections
    from dagster_project.settings import get_settings

    settings = get_settings()
    keep_connections(context.instance)
    config: Mapping[str, object] = context.executor_config
    place = Place.of(settings)
    handler = EcsSteps(place, classes(settings.compute_classes), Cluster.of(place))
    enabled = bool(config["retries"]["enabled"])  # type: ignore[index]
    return StepDelegatingExecutor(
        handler,
        RetryMode.ENABLED if enabled else RetryMode.DISABLED,
        sleep_seconds=POLL_SECONDS,
        check_step_health_interval_seconds=int(str(config["health_seconds"])),
        max_concurrent=int(str(config["max_concurrent"])),
    )
