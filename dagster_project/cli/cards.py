"""``bindery check``, ``preview`` and ``schema``: what a card says, before anything is loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagster_project.cli.context import card_files, find_stream, pick_stream
from dagster_project.cli.progress import counted
from dagster_project.runtime import engine_runtime

if TYPE_CHECKING:
    from dagster_project.ingest.cards import SourceCard
    from dagster_project.ingest.load.preview import Look

REASONS = 3
"""Reasons that the line under a preview names."""


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check cards: the platform's, or those in FILES (files or folders).

    Reports every mistake with file, line and field, and which settings and secrets the cards need and don't find.
    Exit code 2 when a card is wrong or a reference is missing.
    """
    from dagster_project.ingest.cards.read import read_cards
    from dagster_project.ingest.errors import CardError
    from dagster_project.settings import SettingsError, get_settings

    paths = [found for path in files for found in (card_files(path) if path.is_dir() else [path])]
    wrong = 0
    seen: dict[str, Path] = {}
    found: list[SourceCard] = []
    for path in paths or card_files():
        try:
            cards = read_cards(path)
        except CardError as error:
            wrong += 1
            click.secho(str(error), fg="red", err=True)
            continue
        for card in cards:
            if card.source in seen:
                wrong += 1
                click.secho(
                    f"{path}: source {card.source!r} is also in {seen[card.source]}: rename one", fg="red", err=True
                )
            seen[card.source] = path
            missing = []
            for kind, name in references(card):
                try:
                    settings = get_settings()
                    settings.resolve_secret(name) if kind == "secret" else settings.resolve_setting(name)
                except SettingsError as error:
                    missing.append(str(error))
            if not missing and (said := wrong_schedule(card)) is not None:
                missing.append(said)
            streams = ", ".join(stream.name for stream in card.all_streams)
            click.echo(f"{'ok     ' if not missing else 'missing'} {card.source:<20} {streams:<40} {path}")
            for message in missing:
                wrong += 1
                click.secho(f"        {message}", fg="red", err=True)
        found += cards
    if (said := fed_in_a_ring(found)) is not None:
        wrong += 1
        click.secho(said, fg="red", err=True)
    if not seen and not wrong:
        raise CardError("no cards found: a card is a defs.yaml in a folder of its own; `bindery new SOURCE` makes one")
    sys.exit(2 if wrong else 0)


def fed_in_a_ring(cards: list[SourceCard]) -> str | None:
    """Say which cards' outputs would be read as input again and again, as far as settings are known."""
    from dagster_project.ingest.cards.file import FileSourceCard
    from dagster_project.ingest.cards.output import ring
    from dagster_project.settings import SettingsError, get_settings

    places: dict[str, tuple[str, str]] = {}
    tables: dict[str, list[str]] = {}
    for card in cards:
        if isinstance(card, FileSourceCard) and card.output is not None:
            try:
                settings = get_settings()
                runtime = engine_runtime(settings)
                places[card.source] = (runtime.text(card.path), runtime.text(card.output.path))
            except SettingsError:
                continue  # told already
            tables[card.source] = [card.table(stream.name) for stream in card.streams]
    return ring(places, tables, get_settings().project_dir) if places else None


def wrong_schedule(card: SourceCard) -> str | None:
    """Say what is wrong with the cron expression that a setting gives a card; a literal one was checked with it."""
    from dagster_project.ingest.cards.base import SettingRef
    from dagster_project.ingest.cards.cron import cron_fields
    from dagster_project.settings import get_settings

    if card.schedule is None or not isinstance(card.schedule.cron, SettingRef):
        return None
    name = card.schedule.cron.setting
    try:
        cron_fields(get_settings().resolve_setting(name))
    except ValueError as error:
        return f"attributes.schedule.cron: setting {name}: {error}"
    return None


def references(card: SourceCard) -> list[tuple[str, str]]:
    """List the settings and secrets that a card names: ("setting"|"secret", name), each once."""
    found: dict[tuple[str, str], None] = {}

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if (
                len(value) == 1
                and (kind := next(iter(value))) in {"setting", "secret"}
                and isinstance(value[kind], str)
            ):
                found[kind, value[kind]] = None
                return
            for each in value.values():
                walk(each)
        elif isinstance(value, list | tuple):
            for each in value:
                walk(each)

    walk(card.model_dump())
    return list(found)


@click.command()
@click.argument("target", required=False, metavar="SOURCE.STREAM")
@click.option(
    "--card", "card_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A card's file."
)
@click.option("--stream", default="", help="The stream, with --card.")
@click.option("--limit", default=5, show_default=True, help="How many rows.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
def preview(target: str | None, card_file: Path | None, stream: str, limit: int, as_json: bool) -> None:
    """Fetch a little of a stream and show it as it would be loaded. Writes nothing anywhere."""
    from dagster_project.ingest import pipeline
    from dagster_project.ingest.cards.read import read_card
    from dagster_project.settings import get_settings

    if card_file is not None:
        card = read_card(card_file)
        chosen = pick_stream(card, stream)
    elif target:
        card, chosen = find_stream(target)
    else:
        raise click.UsageError("name SOURCE.STREAM, or a card with --card FILE")
    settings = get_settings()
    if card_file is None:
        from dagster_project.cli.platform import ensure_world

        ensure_world(settings, [card])
    found = pipeline.look(card, engine_runtime(settings), chosen.name, limit)
    if as_json:
        for row in found.rows:
            click.echo(json.dumps(row, default=str, ensure_ascii=False))
    else:
        click.echo(records_table(found))
        click.echo(f"{counted(len(found.rows), 'row')} of {card.source}.{chosen.name}; nothing was written")
    tell(found)


def tell(found: Look) -> None:
    """Say what a load would refuse, and what else a person should look at."""
    for warning in found.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    for note in found.notes:
        click.secho(f"note: {note}", fg="yellow", err=True)
    if not found.refused:
        return
    reasons = [misfit.message for misfits in found.misfits.values() for misfit in misfits[:1]] + found.unread
    shown = list(dict.fromkeys(reasons))
    click.secho(
        f"{found.refused} of {len(found.rows) + len(found.unread)} rows would be quarantined: "
        + "; ".join(shown[:REASONS])
        + (f"; and {len(shown) - REASONS} more" if len(shown) > REASONS else ""),
        fg="yellow",
        err=True,
    )


def records_table(found: Look, width: int = 48) -> str:
    """Lay rows out for reading, one field a line: column, type, value; what a load would refuse is marked."""
    lines = []
    name_width = max((len(name) for row in found.rows for name in row), default=0)
    type_width = max(map(len, found.types.values()), default=0)
    for number, row in enumerate(found.rows):
        lines.append(f"── row {number + 1} " + "─" * 40)
        misfits = {misfit.column: misfit.message for misfit in reversed(found.misfits.get(number, []))}
        for name, value in row.items():
            text = written(value).replace("\n", "⏎")
            text = text if len(text) <= width * 2 else text[: width * 2 - 1] + "…"
            mark = f"   ✗ {misfits.pop(name)}" if name in misfits else ""
            lines.append(f"{name:<{name_width}}  {found.types.get(name, ''):<{type_width}}  {text}{mark}")
        lines += [f"✗ {message}" for message in misfits.values()]
    return "\n".join(lines) if lines else "(no rows)"


def written(value: Any) -> str:
    """Write a value as one reads it in a table: the type stands beside it, so that nothing needs quotes."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


@click.command()
def schema() -> None:
    """Print the JSON Schema of cards, for editor completion.

    Put `# yaml-language-server: $schema=<path>` on the first line of a card.
    """
    from dagster_project.ingest.cards.read import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
