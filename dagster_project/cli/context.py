"""What several subcommands need: the platform's cards, and one card or stream of them by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.ingest.errors import CardError

if TYPE_CHECKING:
    from dagster_project.ingest.cards import SourceCard, StreamCard

DEFS = Path(__file__).parent.parent / "defs"


def card_files(root: Path = DEFS) -> list[Path]:
    """List the platform's card files, sorted by folder."""
    return sorted(path for path in root.rglob("defs.yaml") if ".ipynb" not in path.parts)


def platform_cards(root: Path = DEFS) -> dict[str, tuple[Path, SourceCard]]:
    """Read every card of the platform: source -> (file, card).

    Raises:
        CardError: A card is wrong, or two have one source name.
    """
    from dagster_project.ingest.cards.read import read_cards

    found: dict[str, tuple[Path, SourceCard]] = {}
    for path in card_files(root):
        for card in read_cards(path):
            if card.source in found:
                raise CardError(f"{path}: source {card.source!r} is also in {found[card.source][0]}: rename one")
            found[card.source] = (path, card)
    return found


def find_card(source: str) -> SourceCard:
    """Give the platform's card of one source.

    Raises:
        CardError: No such source; the message lists those there are.
    """
    cards = platform_cards()
    if source not in cards:
        known = ", ".join(sorted(cards)) or "none"
        raise CardError(f"no source {source!r}; there are: {known}. A card elsewhere is run with --card FILE")
    return cards[source][1]


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
