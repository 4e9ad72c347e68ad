"""``bindery run`` and ``replay``: the whole graph through Dagster, or one source through the engine alone."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagster_project.cli.context import command, find_card
from dagster_project.cli.progress import Watcher, counted, size
from dagster_project.runtime import engine_runtime

if TYPE_CHECKING:
    from dagster_project.ingest.cards import SourceCard
    from dagster_project.settings import Settings


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option(
    "--card", "card_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A card's file."
)
@click.option(
    "--database",
    help="Postgres URL to load into (with --card or SOURCE); by default the platform's: BINDERY_DATABASE_URL, or the "
    "Postgres in the data directory.",
)
@click.option("--stream", "streams", multiple=True, help="Only this stream; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows of each stream.")
@click.option("--dry-run", is_flag=True, help="Fetch a little, type it, show it; write nothing.")
@click.option("--full-refresh", is_flag=True, help="Forget cursors: fetch everything again.")
@click.option("--load-only", is_flag=True, help="Load what is landed; ask nothing of the source.")
@click.option("--debug", is_flag=True, help="The whole graph with few rows in a scratch database.")
@click.option("--json", "as_json", is_flag=True, help="Progress and result as JSON lines.")
def run(
    sources: tuple[str, ...],
    card_file: Path | None,
    database: str | None,
    streams: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
    full_refresh: bool,
    load_only: bool,
    debug: bool,
    as_json: bool,
) -> None:
    """Materialise the whole graph; or fetch and load the named sources only, or one card that stands alone."""
    from dagster_project.settings import get_settings

    if card_file is None and not sources:
        given = {"--database": database, "--stream": streams, "--dry-run": dry_run, "--load-only": load_only}
        if odd := [option for option, value in given.items() if value]:
            raise click.UsageError(f"{', '.join(odd)}: name a SOURCE, or a card with --card FILE")
        run_everything(get_settings(), debug=debug, limit=limit, full_refresh=full_refresh, as_json=as_json)
        return
    if card_file is not None and sources:
        raise click.UsageError("name sources or --card FILE, not both")
    if debug:
        raise click.UsageError("--debug runs the whole graph; for one source use --limit or --dry-run")
    settings = with_database(get_settings(), database)
    if card_file is not None:
        from dagster_project.ingest.cards.read import read_cards

        cards = read_cards(card_file)
        if database is None and not dry_run:
            tell_shared_names(card_file, cards)
    else:
        cards = [find_card(source) for source in sources]
        if not load_only:
            from dagster_project.cli.platform import ensure_world

            ensure_world(settings, cards)
    if dry_run:
        show_dry_run(settings, cards, streams, limit or 5)
        return
    from dagster_project import warehouse

    warehouse.ensure_ready(settings)
    for card in cards:
        run_card(settings, card, streams, limit, full_refresh, load_only, as_json, report=card_file is None)


def tell_shared_names(file: Path, cards: list[SourceCard]) -> None:
    """Warn where a card that stands alone has the name of one of the platform's: they would share everything."""
    from dagster_project.cli.context import shelf

    theirs = shelf().cards
    for card in cards:
        other = theirs[card.source][0] if card.source in theirs else file
        if not other.samefile(file):
            click.secho(
                f"warning: {file}: source {card.source!r} is also that of {other}: they share raw tables "
                f"({card.source}__...), cursor and landing. Give this one another `source`",
                fg="yellow",
                err=True,
            )


def with_database(settings: Settings, database: str | None) -> Settings:
    """Give settings that point at another Postgres, where the caller names one."""
    return settings if database is None else settings.model_copy(update={"database_url": _secret(database)})


def _secret(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)


def show_dry_run(settings: Settings, cards: list[SourceCard], streams: tuple[str, ...], limit: int) -> None:
    """Preview every chosen stream of the cards."""
    from dagster_project.cli.cards import records_table, tell
    from dagster_project.ingest import pipeline

    runtime = engine_runtime(settings)
    for card in cards:
        for stream in card.all_streams:
            if not streams or stream.name in streams:
                found = pipeline.look(card, runtime, stream.name, limit)
                click.secho(f"{card.source}.{stream.name}", bold=True)
                click.echo(records_table(found))
                tell(found)
    click.echo("dry run: nothing was written")


def run_card(
    settings: Settings,
    card: SourceCard,
    streams: tuple[str, ...],
    limit: int | None,
    full_refresh: bool,
    load_only: bool,
    as_json: bool,
    *,
    report: bool,
) -> None:
    """Fetch and load one card, show the result, and tell Dagster where an instance of this platform is there."""
    from dagster_project.ingest import pipeline

    for name in streams:
        card.stream(name)
    runtime = engine_runtime(settings)
    started = time.monotonic()
    with Watcher(as_json=as_json) as watcher:
        runtime.progress = watcher
        result = pipeline.run_source(
            card, runtime, streams=list(streams) or None, limit=limit, full_refresh=full_refresh, fetch=not load_only
        )
    show_result(card.source, result, time.monotonic() - started, as_json)
    if report:
        from dagster_project.operations.report import report_load

        report_load(settings, card, result)
    result.load.refuse_unreadable(card.source)


def show_result(source: str, result: Any, seconds: float, as_json: bool) -> None:
    """Print what a load did, one line a stream."""
    load = result.load
    if as_json:
        streams = {name: stream.to_metadata() for name, stream in load.streams.items()}
        print(
            json.dumps(
                {
                    "event": "result",
                    "source": source,
                    "load_id": load.load_id,
                    "load_ids": load.load_ids,
                    "streams": streams,
                },
                default=str,
            )
        )
        return
    if not load.streams:
        click.echo(f"{source}: nothing new ({seconds:.1f} s)")
        return
    for name, stream in load.streams.items():
        counts = [
            f"{value:,} {word}"
            for word, value in [
                ("inserted", stream.inserted),
                ("updated", stream.updated),
                ("unchanged", stream.unchanged),
                ("deleted", stream.deleted),
                ("duplicates", stream.duplicates),
                ("quarantined", stream.quarantined),
            ]
            if value
        ]
        rate = f" ({stream.rows_per_second:,.0f} rows/s)" if stream.seconds > 0 and stream.rows_read else ""
        click.echo(
            f"{source}.{name}: {counted(stream.rows_read, 'row')} read: {', '.join(counts) or 'nothing'} · "
            f"{size(stream.bytes)} · loaded in {stream.seconds:.1f} s{rate}"
        )
        if stream.new_columns:
            click.echo(f"  new columns: {', '.join(stream.new_columns)}")
        if stream.quarantined:
            click.secho(f"  look at the refused rows: {command()} quarantine {source}.{name}", fg="yellow")
    click.echo(f"{source}: {seconds:.1f} s altogether")
    if len(load.load_ids) > 1:
        click.echo(f"{source}: in {len(load.load_ids)} loads: {', '.join(map(str, load.load_ids))}")


@click.command()
@click.argument("source")
@click.option("--stream", "streams", multiple=True, help="Only this stream; may be repeated.")
@click.option("--load", "load_id", type=int, help="Only what this load took.")
@click.option("--json", "as_json", is_flag=True, help="Progress and result as JSON lines.")
def replay(source: str, streams: tuple[str, ...], load_id: int | None, as_json: bool) -> None:
    """Load landed bytes again, without network: after a fix of the card, or to take rows out of quarantine."""
    from dagster_project import warehouse
    from dagster_project.ingest import pipeline
    from dagster_project.settings import get_settings

    settings = get_settings()
    card = find_card(source)
    warehouse.ensure_ready(settings)
    runtime = engine_runtime(settings)
    started = time.monotonic()
    with Watcher(as_json=as_json) as watcher:
        runtime.progress = watcher
        result = pipeline.replay_source(card, runtime, streams=list(streams) or None, load_id=load_id)
    show_result(source, result, time.monotonic() - started, as_json)
    result.load.refuse_unreadable(source)


def run_everything(settings: Settings, *, debug: bool, limit: int | None, full_refresh: bool, as_json: bool) -> None:
    """Materialise the whole graph in the platform's Dagster instance, show what happened, end with an exit code."""
    from dagster_project.cli.context import platform_cards
    from dagster_project.cli.graph import GraphWatcher, show_summary
    from dagster_project.cli.platform import ensure_world
    from dagster_project.operations.run_all import materialize_everything

    platform_cards()  # a mistake in a card is said here in a line, by the graph in fifty
    ensure_world(settings)
    rows = limit if limit is not None else settings.debug_rows if debug else None
    with GraphWatcher(as_json=as_json) as watcher:
        summary = materialize_everything(
            settings, debug=debug, debug_rows=rows, full_refresh=full_refresh, on_event=watcher
        )
    show_summary(summary, settings, as_json=as_json)
    sys.exit(0 if summary.success else summary.exit_code)
