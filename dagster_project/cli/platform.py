"""``bindery dev`` and ``world``: what runs in the background on a laptop."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dagster_project.ingest.cards import SourceCard
    from dagster_project.sample import WorldInfo
    from dagster_project.settings import Settings


WORLD_SETTINGS = frozenset({"gutenberg_url", "bookshop_url", "drop_dir"})
"""What cards refer to that read the sample world."""


def ensure_world(settings: Settings, cards: Iterable[SourceCard] | None = None) -> None:
    """Start the bundled sample world and refresh its drop files, where one of the cards (by default any) reads it."""
    if settings.sources == "sample" and (cards is None or any(map(reads_world, cards))):
        start_world(settings)


def reads_world(card: SourceCard) -> bool:
    """Tell whether a card reads what the sample world gives, as the bundled ones do."""
    from dagster_project.cli.cards import references

    return any(kind == "setting" and name.lower() in WORLD_SETTINGS for kind, name in references(card))


def start_world(settings: Settings) -> WorldInfo:
    """Start the sample world in the revision that is asked for; where none is, in the one it was last in."""
    from dagster_project.sample import ensure_running, write_drops

    asked = settings.revision if "revision" in settings.model_fields_set else None
    info = ensure_running(settings.data_dir / "sample", asked, settings.sample_scale)
    if asked is None and info.revision != settings.revision:
        click.echo(
            f"sample world: revision {info.revision}, as before; REVISION={settings.revision} goes back", err=True
        )
    write_drops(settings.drop_path, info.revision, settings.sample_scale)
    return info


@click.command()
@click.option("--port", default=3000, show_default=True, help="Of the UI, on loopback.")
@click.option("--code-only", is_flag=True, help="Only serve the code, for `dagster dev -w workspace.yaml` elsewhere.")
def dev(port: int, code_only: bool) -> None:
    """Start Dagster's UI and daemon over the same database that `bindery run` writes to. Ctrl-C ends it."""
    from dagster_project.operations.dev import run_dev
    from dagster_project.settings import get_settings

    settings = get_settings()
    ensure_world(settings)
    run_dev(settings, port=port, code_only=code_only)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def dbt(arguments: tuple[str, ...]) -> None:
    """Run dbt on the platform's project and database: `bindery dbt build --select staging`. `parse` makes its manifest.

    Everything after `dbt` is dbt's own; which project, which database and which role are filled in.
    """
    import subprocess

    from dagster_project.dbt_assets import program
    from dagster_project.settings import get_settings

    settings = get_settings()
    if arguments == ("parse",):
        program.prepare(settings, force=True)
        click.echo("parsed: target/manifest.json is current")
        return
    with program.work_folder(settings, None) as folder:
        words = list(arguments)
        if not {"--version", "--help", "-h"}.intersection(words):
            words += program.project_options(settings, folder)
        try:
            done = subprocess.run(
                [str(settings.dbt_path), *words],
                env=program.environment(settings, None),
                cwd=settings.dbt_project_dir,
                check=False,
            )
        except FileNotFoundError as error:
            raise program.DbtError(program.missing_program(settings)) from error
        kept = settings.data_dir / "dbt" / "docs"
        if done.returncode == 0 and words[:2] == ["docs", "generate"]:
            kept.mkdir(parents=True, exist_ok=True)
            for name in ("index.html", "catalog.json", "manifest.json"):
                shutil.copyfile(folder / name, kept / name)
            click.echo(f"the pages are in {kept}")
    raise SystemExit(done.returncode)


@click.group()
def world() -> None:
    """Start, stop or look at the bundled sample world: a catalogue API, a bookshop, dropped files."""


@world.command()
def start() -> None:
    """Start the sample world's servers and write its drop files."""
    from dagster_project.settings import get_settings

    settings = get_settings()
    info = start_world(settings)
    click.echo(
        f"catalogue API {info.gutenberg_url}\nbookshop      {info.bookshop_url}\ndrop folder   {settings.drop_path}"
    )


@world.command()
def stop() -> None:
    """Stop the sample world's servers."""
    from dagster_project.sample import stop as stop_world
    from dagster_project.settings import get_settings

    click.echo("stopped" if stop_world(get_settings().data_dir / "sample") else "it wasn't running")


@world.command()
def status() -> None:
    """Say whether the sample world runs, and where."""
    from dagster_project.sample import status as world_status
    from dagster_project.settings import get_settings

    info = world_status(get_settings().data_dir / "sample")
    click.echo(
        "not running" if info is None else f"running (pid {info.pid}): {info.gutenberg_url}, {info.bookshop_url}"
    )
