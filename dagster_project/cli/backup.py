"""``bindery backup`` and ``restore``: the whole installation into a file, and back.

Words and options only; what is written and read is in ``operations.backup``. The hidden options are for
``deploy/backup``, which does the same with a database in a container.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_project.cli.progress import size

if TYPE_CHECKING:
    from dagster_project.operations.backup.archive import Manifest
    from dagster_project.settings import Settings

STEPS = ("check", "prepare", "landing", "warehouse", "dagster", "finish")
landing_option = click.option("--landing/--no-landing", default=True, show_default=True, help="With the landed bytes.")


def ready() -> Settings:
    """Give the settings of an installation whose server runs."""
    from dagster_project import warehouse
    from dagster_project.settings import get_settings

    settings = get_settings()
    warehouse.ensure_ready(settings)
    return settings


def told(manifest: Manifest) -> str:
    """Put what a backup has into a line."""
    parts = [f"{each.name} {size(each.bytes)}" for each in manifest.dumps.values()]
    landing = manifest.landing
    parts.append(f"{landing.files:,} landed objects {size(landing.bytes)}" if landing else "without landed bytes")
    return ", ".join(parts)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@landing_option
@click.option("--frames", is_flag=True, hidden=True, help="Dumps come from standard input, the backup goes to output.")
def backup(file: Path, landing: bool, frames: bool) -> None:
    """Write warehouse, Dagster's storage and landed bytes to FILE, with checksums. Runs may go on.

    Passwords and secrets aren't in it; everything that was loaded is. FILE must not be there yet.
    """
    from dagster_project.operations.backup.make import make, pack

    if (str(file) == "-") != frames:
        raise click.UsageError("name a file")
    settings = ready()
    if frames:
        manifest = pack(settings, sys.stdin.buffer, sys.stdout.buffer, landing=landing)
        sys.stdout.buffer.flush()
    else:
        manifest = make(settings, file, landing=landing)
    click.echo(f"{'backup' if frames else file}: {told(manifest)}", err=frames)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, allow_dash=True))
@click.option("--replace", is_flag=True, help="What is there may go: the databases are replaced.")
@click.option("--check", is_flag=True, help="Only prove the backup; change nothing.")
@landing_option
@click.option("--step", type=click.Choice(STEPS), hidden=True, help="One step, the backup from standard input.")
def restore(file: Path, replace: bool, check: bool, landing: bool, step: str | None) -> None:
    """Bring FILE back: prove it, restore it beside what is there, then put it in its place, all at once.

    Refuses to replace databases with content unless told. Landed objects that are there stay. May be repeated.
    """
    from dagster_project.operations.backup.archive import verify
    from dagster_project.operations.backup.restore import restore as bring

    if step is None and str(file) == "-":
        raise click.UsageError("name a file: a backup is read several times")
    if check:
        with file.open("rb") as source:
            manifest = verify(source)
        click.echo(f"{file} is whole: made {manifest.created_at} by Bindery {manifest.bindery}, {told(manifest)}")
        return
    settings = ready()
    if step is not None:
        run_step(settings, step, replace=replace)
        return
    manifest = bring(settings, file, replace=replace, landing=landing, say=click.echo)
    click.echo(f"restored as of {manifest.created_at}: {told(manifest)}")


def run_step(settings: Settings, step: str, *, replace: bool) -> None:
    """Make one step of a restore into a database in a container."""
    from dagster_project.operations.backup import BackupError
    from dagster_project.operations.backup import restore as steps
    from dagster_project.operations.backup.archive import dump_of

    source = sys.stdin.buffer
    if step == "check":
        manifest = steps.check_stream(settings, source, replace=replace)
        click.echo(f"the backup is whole: made {manifest.created_at}, {told(manifest)}")
    elif step == "prepare":
        steps.prepare(settings)
    elif step == "landing":
        put = steps.bring_landing(settings, source)
        click.echo(f"{put.files:,} landed objects written")
    elif step == "finish":
        steps.finish(settings)
    else:
        try:
            for block in dump_of(source, step):
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise BackupError("the database took no more: pg_restore has said why") from None
