"""Batches that wait for their load: a fetch that would land the same rows once more leaves them to the load.

Only streams that append are looked at: merging or replacing the same rows twice is as good as once. What a fetch goes
on with (open batches) is the log's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dagster_project.ingest.cards.base import SourceCard, StreamCard
from dagster_project.ingest.fetch.session import FetchSession

if TYPE_CHECKING:
    from dagster_project.ingest.landing.model import Batch

REFRESHED = "a full refresh began before it was loaded"


def left_to_load(session: FetchSession, stream: StreamCard) -> bool:
    """Tell whether a stream isn't to be asked for, because what it would give is landed and not loaded yet.

    So it is after a run that was killed, or whose load failed, between fetch and load. A full refresh is somebody's
    word that the source shall be asked again: it gives such batches up instead, so that it is also the way out where a
    batch can never be loaded.
    """
    if stream.write != "append":
        return False
    waiting = session.waiting(stream.name)
    if session.full_refresh:
        if session.limit is None:
            give_up(session, stream, waiting, lambda batch: batch.cursor_start is None)
        return False
    if not waiting or not reads_everything(session.card, stream):
        return False
    figures = session.figures(stream.name)
    figures.sealed, figures.batch_id, figures.left = True, waiting[-1].batch_id, len(waiting)
    session.warn(
        stream.name,
        f"{_named(waiting)} landed and not loaded yet: the source isn't asked again, because an append stream without "
        "a cursor would get the same rows twice. Load first; if the load refuses these rows for good, "
        "--full-refresh gives them up and fetches anew",
    )
    return True


def give_up(
    session: FetchSession, stream: StreamCard, waiting: list[Batch], whole: Callable[[Batch], bool] = lambda _: False
) -> None:
    """Give up waiting batches whose rows a full refresh lands again.

    Args:
        session: Of a full refresh.
        stream: What is fetched.
        waiting: Its batches that no load has taken.
        whole: Tells which of them hold everything that the source had, besides those of an earlier full refresh.
    """
    again = [b for b in waiting if b.full_refresh or reads_everything(session.card, stream) or whole(b)]
    if not again:
        return
    source = session.card.source
    if done := session.log(lambda log: log.give_up(source, again, REFRESHED)):
        given_up = [batch for batch in again if batch.batch_id in done]
        session.warn(stream.name, f"{_named(given_up)} given up unloaded: {REFRESHED}")


def reads_everything(card: SourceCard, stream: StreamCard) -> bool:
    """Tell whether each fetch of a stream lands all that the source has.

    A dropped file is landed once, a cursor goes on where it was, and a child asks for its parents' new records alone.
    """
    if hasattr(stream, "patterns") or stream.cursor is not None:
        return False
    parent = getattr(stream, "parent", None)
    return parent is None or reads_everything(card, card.stream(parent.stream))


def _named(batches: list[Batch]) -> str:
    numbers = [str(batch.batch_id) for batch in batches]
    return f"batch {numbers[0]} is" if len(numbers) == 1 else f"batches {', '.join(numbers)} are"
