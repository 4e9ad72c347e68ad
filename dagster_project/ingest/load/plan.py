"""How waiting batches are shared out among loads: a backfill is many loads, never one transaction of hours.

What a load does with its batches is ``run``'s; which batches a stream needs at all is ``batches``'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dagster_project.ingest.load.batches import Work, sizes_of

if TYPE_CHECKING:
    from dagster_project.ingest.landing.model import Batch
    from dagster_project.ingest.load.session import Session


def next_load(session: Session, works: dict[str, Work], most: int) -> dict[str, Work]:
    """Choose what the next load takes of everything that waits.

    The unit is a *round*: at most one batch of each stream, as one fetch landed them, so that what was fetched together
    is committed together. A load takes rounds in order until they hold ``most`` bytes, and at least one: so two hundred
    small batches are one load, and two large ones are two.

    Args:
        session: In the load's transaction.
        works: Stream -> what waits.
        most: Bytes of a load, as landed.

    Returns:
        Stream -> what the next load does with it; ``more`` where batches are left for a later one.
    """
    rounds = _rounds(works)
    if len(rounds) < 2:
        return works
    sizes = sizes_of(session, [batch.batch_id for each in rounds for batch in each.values()])
    total = 0
    taken: set[int] = set()
    for number, each in enumerate(rounds):
        total += sum(sizes.get(batch.batch_id, 0) for batch in each.values())
        if number and total > most:
            break
        taken |= {batch.batch_id for batch in each.values()}
    return {name: _share(work, taken) for name, work in works.items()}


def _rounds(works: dict[str, Work]) -> list[dict[str, Batch]]:
    """Put the batches to be read into rounds, in the order in which they were opened."""
    waiting = sorted(
        ((batch.batch_id, name, batch) for name, work in works.items() for batch in work.read), key=lambda each: each[0]
    )
    rounds: list[dict[str, Batch]] = []
    for _, name, batch in waiting:
        if not rounds or name in rounds[-1]:
            rounds.append({})
        rounds[-1][name] = batch
    return rounds


def _share(work: Work, taken: set[int]) -> Work:
    """Give a stream's part of the next load: batches that are superseded or empty go with the one after them."""
    read = [batch for batch in work.read if batch.batch_id in taken]
    if len(read) == len(work.read):
        return work
    if not read:
        return Work([], [], more=True)
    last = read[-1].batch_id
    # A complete batch is the first to be read; what is missing from it is deleted before later ones add to it.
    return replace(work, batches=[batch for batch in work.batches if batch.batch_id <= last], read=read, more=True)
