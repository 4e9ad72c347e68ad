"""The executor that gives each step a container: Dagster's step delegation with short polls, over ``DockerSteps``."""

# No postponed annotations here: Dagster reads those of an executor's function as they are.
from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.executor.step_delegating import StepDelegatingExecutor

POLL_SECONDS = 0.2
"""Between two looks at the event log. Each is one query on a connection that is kept."""
HEALTH_SECONDS = 1
"""Between two looks at the containers."""


@dg.executor(
    name="docker",
    config_schema={
        "max_concurrent": dg.Field(int, default_value=4, description="Steps of one run at once."),
        "retries": dg.Field({"enabled": dg.Field(bool, default_value=True)}, default_value={"enabled": True}),
    },
    requirements=dg.multiple_process_executor_requirements(),
)
def docker_steps(context: dg.InitExecutorContext) -> "StepDelegatingExecutor":
    """Run each step in its own container, with the image, CPU, memory and GPU that its op asks for."""
    from dagster._core.execution.retries import RetryMode
    from dagster._core.executor.step_delegating import StepDelegatingExecutor
    from docker import DockerClient

    from dagster_project.execution.compute import classes
    from dagster_project.execution.docker.containers import Place, environment
    from dagster_project.execution.docker.step_handler import DockerSteps
    from dagster_project.execution.storage import keep_connections
    from dagster_project.settings import child_environment, get_settings

    settings = get_settings()
    keep_connections(context.instance)
    config: Mapping[str, object] = context.executor_config
    handler = DockerSteps(
        Place.of(settings),
        classes(settings.compute_classes),
        environment(child_environment({})),
        DockerClient.from_env(),
    )
    enabled = bool(config["retries"]["enabled"])  # type: ignore[index]
    return StepDelegatingExecutor(
        handler,
        RetryMode.ENABLED if enabled else RetryMode.DISABLED,
        sleep_seconds=POLL_SECONDS,
        check_step_health_interval_seconds=HEALTH_SECONDS,
        max_concurrent=int(str(config["max_concurrent"])),
    )
