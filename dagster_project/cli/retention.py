"""``bindery retention``: removes old runs from Dagster's storage.

Words and options only; what is removed and what stays is in ``operations.run_retention``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import click


@click.command()
@click.option("--keep", metavar="TIME", help="How long runs are kept, such as 90d; by default BINDERY_KEEP_RUNS.")
@click.option("--dry-run", is_flag=True, help="Tell how many would be removed; remove nothing.")
def retention(keep: str | None, dry_run: bool) -> None:
    """Remove runs that ended long ago, with their events and output. Tables and load logs stay as they are.

    The run of each asset's newest materialisation stays however old it is. May be ended at any time, and repeated.
    """
    from dagster_project.cli.doctor import instance_of
    from dagster_project.ingest.durations import parse_duration
    from dagster_project.operations.run_retention import remove_old_runs
    from dagster_project.settings import get_settings

    settings = get_settings()
    try:
        seconds = cast("float", parse_duration(keep or settings.keep_runs))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--keep") from None
    with instance_of(settings) as instance:
        done = remove_old_runs(instance, timedelta(seconds=seconds), dry_run=dry_run)
    kept = f"; {done.kept:,} older ones stay: they made what assets show" if done.kept else ""
    click.echo(
        f"{'would remove' if dry_run else 'removed'} {done.runs:,} runs older than {keep or settings.keep_runs}{kept}"
    )
