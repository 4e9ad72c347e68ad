"""Which executor runs the steps: processes forked from one that has the heavy modules already, containers, or tasks."""

from __future__ import annotations

import dagster as dg

from dagster_project.execution.forks import PRELOAD

MAX_CONCURRENT = 4
"""Steps at once. Fetches wait for the network and dbt for the database, so more than two cores' worth."""


def executor(environment: str) -> dg.ExecutorDefinition:
    """Give the executor of an environment."""
    if environment == "docker":
        from dagster_project.execution.docker.executor import docker_steps

        return docker_steps
    if environment == "ecs":
        from dagster_project.execution.ecs.executor import ecs_steps

        return ecs_steps
    return dg.multiprocess_executor.configured(
        {"max_concurrent": MAX_CONCURRENT, "start_method": {"forkserver": {"preload_modules": list(PRELOAD)}}}
    )
