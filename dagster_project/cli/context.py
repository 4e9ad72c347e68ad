"""What several subcommands need: the platform's cards, and one card or stream of them by name."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_project.ingest.errors import CardError

if TYPE_CHECKING:
    from dagster_project.ingest.cards import SourceCard, StreamCard

DEFS = Path(__file__).parent.parent / "defs"


def card_files(root: Path = DEFS) -> list[Path]:
    """List the platform's card files, sorted by folder."""
    return sorted(path for path in root.rglob("defs.yaml") if ".ipynb" not in path.parts)


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the platform's card files hold, mistakes included."""

    cards: dict[str, tuple[Path, SourceCard]]
    """Source -> (file, card), of the files without mistakes."""
    mistakes: dict[Path, CardError]
    """File -> what is wrong with it."""


def shelf(root: Path = DEFS) -> Shelf:
    """Read every card file of the platform, those with mistakes too."""
    from dagster_project.ingest.cards.read import read_cards

    found = Shelf({}, {})
    for path in card_files(root):
        try:
            for card in read_cards(path):
                if card.source in found.cards:
                    other = found.cards[card.source][0]
                    raise CardError(f"{path}: source {card.source!r} is also in {other}: rename one")
                found.cards[card.source] = (path, card)
        except CardError as error:
            found.mistakes[path] = error
    return found


def platform_cards(root: Path = DEFS) -> dict[str, tuple[Path, SourceCard]]:
    """Read every card of the platform: source -> (file, card).

    Raises:
        CardError: Cards are wrong, or two have one source name; the message has the mistakes of all files.
    """
    found = shelf(root)
    if found.mistakes:
        raise CardError("\n".join(map(str, found.mistakes.values())))
    return found.cards


def find_card(source: str, root: Path = DEFS) -> SourceCard:
    """Give the platform's card of one source. Mistakes in the others are none of its business, and only mentioned.

    Raises:
        CardError: Its card is wrong; or there is no such source: then the message lists those there are.
    """
    found = shelf(root)
    theirs = [error for path, error in found.mistakes.items() if _names_source(path, source)]
    if theirs:
        raise CardError("\n".join(map(str, theirs)))
    if source not in found.cards:
        raise no_source(source, found)
    for path in found.mistakes:
        click.secho(f"note: {path} has mistakes, which `{command()} check {path}` names", fg="yellow", err=True)
    return found.cards[source][1]


def no_source(source: str, found: Shelf, others: Iterable[str] = ()) -> CardError:
    """Make the error that says which sources there are."""
    known = sorted({*found.cards, *others})
    near = difflib.get_close_matches(source, known, 1, 0.6)
    said = f"no source {source!r}; there are: {', '.join(known) or 'none'}."
    said += f" Did you mean {near[0]!r}?" if near else " A card elsewhere is run with --card FILE"
    return CardError("\n".join([said, *map(str, found.mistakes.values())]))


def _names_source(path: Path, source: str) -> bool:
    """Tell whether a file that can't be read as a card is meant to be that of a source."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return path.parent.name == source
    named = re.findall(r"^\s*source\s*:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    return source in named if named else path.parent.name == source


def command() -> str:
    """Give the words that start this command here: it is on nobody's PATH after `make`."""
    if shutil.which("bindery") is not None:
        return "bindery"
    program = Path(sys.argv[0]).absolute()
    if program.name != "bindery":
        return "bindery"
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else str(program)


def find_stream(target: str) -> tuple[SourceCard, StreamCard]:
    """Resolve ``source.stream``, or ``source`` where it has only one stream.

    Raises:
        CardError: No such source or stream.
    """
    source, _, name = target.partition(".")
    card = find_card(source)
    return card, pick_stream(card, name)


def pick_stream(card: SourceCard, name: str) -> StreamCard:
    """Give the stream of this name, or the only one there is.

    Raises:
        CardError: No such stream, or several and none named.
    """
    streams = {stream.name: stream for stream in card.all_streams}
    if not name and len(streams) == 1:
        return next(iter(streams.values()))
    if name not in streams:
        known = ", ".join(f"{card.source}.{each}" for each in streams)
        raise CardError(f"which stream of {card.source!r}? There are: {known}")
    return streams[name]
