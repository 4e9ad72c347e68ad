"""Taking notifications from the queue: announce what they report, then delete them, and nothing in between.

Killed before the deletion, the message comes again and changes nothing; killed after it, the announcement waits in the
landing log, where the next look finds it. What can't be understood is left to the queue's redrive policy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dagster_project.ingest.fetch.folder import Passed, visible
from dagster_project.ingest.fetch.uploads import Upload, origin_of, wants
from dagster_project.ingest.inbox.events import ObjectEvent, UnintelligibleError, read_message
from dagster_project.ingest.inbox.log import announce, forget_removed, note_poison
from dagster_project.ingest.inbox.queue import Message, Queue
from dagster_project.ingest.s3.place import Place, is_bucket, place_of

if TYPE_CHECKING:
    import psycopg

    from dagster_project.ingest.cards.base import SourceCard
    from dagster_project.ingest.cards.file import FileSourceCard
    from dagster_project.ingest.runtime import Runtime

MOST: Final = 5000
"""Messages that one call takes; the next goes on."""
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Route:
    """A card that reads a bucket."""

    card: FileSourceCard
    place: Place


@dataclass(slots=True)
class Consumed:
    """What became of the messages."""

    messages: int = 0
    announced: int = 0
    """Observations that are news."""
    known: int = 0
    """Reports of what is known, or older than what is known."""
    removed: int = 0
    elsewhere: int = 0
    """Objects that no card wants."""
    poison: int = 0
    """Messages that nobody can make anything of."""
    notes: list[str] = field(default_factory=list)
    """What a person may want to know, at most twenty."""

    def note(self, text: str) -> None:
        """Keep a note."""
        if len(self.notes) < _SHOWN:
            self.notes.append(text)


def routes_of(cards: Iterable[SourceCard], runtime: Runtime) -> list[Route]:
    """Give the cards that read a bucket, with the bucket that their settings mean.

    Raises:
        CardError: A path is no place.
    """
    from dagster_project.ingest.cards.file import FileSourceCard

    return [
        Route(card, place_of(path))
        for card in cards
        if isinstance(card, FileSourceCard) and is_bucket(path := runtime.text(card.path))
    ]


def consume(
    routes: Sequence[Route], runtime: Runtime, url: str, *, seconds: float = 20.0, wait: float = 10.0, hidden: int = 60
) -> Consumed:
    """Take messages until none is left or the time is up.

    Args:
        routes: Where reports go.
        runtime: Connections, and who watches.
        url: Of the queue.
        seconds: After which no further messages are taken.
        wait: Seconds to wait for the first ones.
        hidden: Seconds for which messages are nobody else's, renewed while they are worked on.

    Raises:
        SourceError: The queue refuses.
        psycopg.Error: The database is out of reach: what was received comes again.
    """
    done = Consumed()
    queue = Queue(url, hidden=hidden)
    deadline = time.monotonic() + seconds
    with runtime.connect() as connection:
        connection.autocommit = True
        while time.monotonic() < deadline and done.messages < MOST:
            messages = queue.receive(min(wait, deadline - time.monotonic()))
            if not messages:
                break
            wait = 0.0
            runtime.checkpoint("received")
            with queue.held(messages):
                understood = _take(connection, routes, messages, done)
                runtime.checkpoint("announced")
                queue.delete(understood)
                runtime.checkpoint("deleted")
            done.messages += len(messages)
    return done


def _take(
    connection: psycopg.Connection, routes: Sequence[Route], messages: Sequence[Message], done: Consumed
) -> list[Message]:
    """Announce what messages report; give those that may be deleted."""
    understood = []
    uploads: dict[tuple[str, str], list[Upload]] = {}
    removed: list[tuple[str, str, str, str]] = []
    for message in messages:
        try:
            events = read_message(message.body)
        except UnintelligibleError as error:
            done.poison += 1
            done.note(f"message {message.message_id} can't be understood ({error}): it goes to the dead letters")
            note_poison(connection, message.message_id, str(error), message.body, message.receives)
            continue
        understood.append(message)
        for event in events:
            _sort(event, routes, uploads, removed, done)
    for (source, stream), found in uploads.items():
        news = announce(connection, source, stream, found)
        done.announced += news
        done.known += len(found) - news
    for source, stream, origin, sequencer in removed:
        forget_removed(connection, source, stream, origin, sequencer)
    return understood


def _sort(
    event: ObjectEvent,
    routes: Sequence[Route],
    uploads: dict[tuple[str, str], list[Upload]],
    removed: list[tuple[str, str, str, str]],
    done: Consumed,
) -> None:
    """Find the streams that an event concerns."""
    done.removed += event.kind == "removed"
    concerns = 0
    for route in routes:
        if route.place.bucket != event.bucket:
            continue
        origin = origin_of(route.place, event.key)
        if isinstance(origin, Passed):
            done.note(f"passed over: {origin.name}: {origin.why}")
            continue
        if origin is None:
            continue
        for stream in route.card.streams:
            if not wants(stream.patterns, origin):
                continue
            concerns += 1
            if event.kind == "put":
                upload = Upload(
                    route.place,
                    origin,
                    event.size,
                    event.etag,
                    version=event.version,
                    sequencer=event.sequencer,
                    happened=event.happened,
                )
                uploads.setdefault((route.card.source, stream.name), []).append(upload)
            elif event.sequencer:
                removed.append((route.card.source, stream.name, origin, event.sequencer))
    if not concerns:
        done.elsewhere += 1
        done.note(f"no card wants s3://{visible(event.bucket)}/{visible(event.key)}")
