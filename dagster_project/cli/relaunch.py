"""``bindery relaunch``: launches a job where no run of it is active; for a scheduler outside of Dagster.

Where a daemon runs, the setting ``keep_running`` does the same without it.
"""

from __future__ import annotations

import click


@click.command()
@click.argument("job")
def relaunch(job: str) -> None:
    """Launch JOB unless a run of it is active or queued, and end without waiting for it.

    For Docker and ECS, where a run is a container or a task of its own. A run that is active by name alone (its worker
    is gone) is marked as failed first.
    """
    from dagster import DagsterInstance

    from dagster_project.operations.relaunch import launch_if_idle
    from dagster_project.settings import get_settings

    if not get_settings().in_containers:
        raise click.ClickException(
            "this starts runs in containers or tasks. On a laptop `bindery dev` launches what BINDERY_KEEP_RUNNING "
            "names, and `bindery run` runs everything now"
        )
    with DagsterInstance.get() as instance:
        try:
            run, now = launch_if_idle(instance, job)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"launched {job}: run {run}" if now else f"{job} is under way: run {run}")
