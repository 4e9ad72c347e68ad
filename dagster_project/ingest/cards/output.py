"""What a card may say of where its rows go as files, and the refusal of one that would feed itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dagster_project.ingest.cards.base import CardModel, Text


class Output(CardModel):
    """Where the rows of each load go as Parquet, with a manifest that says what they are and came from."""

    path: Text
    """A folder, absolute or below the project, or ``s3://bucket/prefix``; files go into a folder below it that is
    called as the raw table is."""
    partition: Literal["load", "day"] = "load"
    """Folders below the table's: one a load (``load=12``), or one a day with the loads in it (``day=2026-11-21``)."""
    pii: Literal["drop", "keep"] = "drop"
    """What becomes of columns that the card marks as ``pii``."""


def loop(watched: str, output: str, tables: list[str], base: Path = Path("/")) -> str | None:
    """Say why an output would be read again as input, or None.

    Args:
        watched: What the source reads, resolved.
        output: Where its output goes, resolved.
        tables: Folders below the output that are written to.
        base: What relative folders are relative to.
    """
    from dagster_project.ingest.s3.place import is_bucket, place_of

    why = (
        f"`output.path` {output} lies where the source reads, {watched}: each output would be read as input and make "
        "another one, without end. Give it another prefix or bucket"
    )
    if is_bucket(watched) != is_bucket(output):
        return None
    if is_bucket(watched):
        source, target = place_of(watched), place_of(output)
        for table in tables:
            below = place_of(target.url(table))
            if source.holds(below) or below.holds(source):
                return why
        return None
    folder, to = ((base / Path(each).expanduser()).resolve() for each in (watched, output))
    for table in tables:
        if (to / table).is_relative_to(folder) or folder.is_relative_to(to / table):
            return why
    return None


def ring(places: dict[str, tuple[str, str]], tables: dict[str, list[str]], base: Path = Path("/")) -> str | None:
    """Say why some outputs would be read by each other for ever, or None. One that feeds another is no ring.

    Args:
        places: Source -> what it reads, and where its output goes, resolved.
        tables: Source -> folders below its output.
        base: What relative folders are relative to.
    """
    feeds = {
        source: {other for other, (watched, _) in places.items() if loop(watched, output, tables[source], base)}
        for source, (_, output) in places.items()
    }
    reach = {source: _reached(source, feeds) for source in feeds}
    for source, reached in reach.items():
        if source in reached:
            names = ", ".join(sorted(other for other in reached if source in reach[other]))
            return f"output of {names} is read as input in a ring, without end: give one of them another `output.path`"
    return None


def _reached(source: str, feeds: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = list(feeds[source])
    while waiting:
        last = waiting.pop()
        if last not in reached:
            reached.add(last)
            waiting += feeds[last]
    return reached
