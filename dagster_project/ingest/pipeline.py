"""A source from end to end in one process: fetch and load, replay, preview.

The two halves are ``fetch`` and ``load``; an orchestrator calls them as two steps over the same tables. Nothing here
knows how either works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from dagster_project.ingest.errors import DataRefusedError, IngestError, SourceError, UnreadableObjectsError
from dagster_project.ingest.load.report import LoadReport

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import SourceCard
    from dagster_project.ingest.chunk import Chunk
    from dagster_project.ingest.fetch.report import FetchReport
    from dagster_project.ingest.landing.model import LandedObject
    from dagster_project.ingest.load.preview import Look
    from dagster_project.ingest.runtime import Runtime


@dataclass(slots=True)
class RunReport:
    """What one run of a source did."""

    fetch: FetchReport | None
    """None where only what is landed was loaded."""
    load: LoadReport


def run_source(
    card: SourceCard,
    runtime: Runtime,
    *,
    streams: Sequence[str] | None = None,
    partition: str = "",
    limit: int | None = None,
    full_refresh: bool = False,
    fetch: bool = True,
) -> RunReport:
    """Fetch a source, then load what is landed.

    Where the fetch of some streams fails, the others are loaded before the failure is raised.

    Args:
        card: The source's card.
        runtime: Connections, archive, values, and who watches.
        streams: Names of the streams; all of them by default.
        partition: The time window, for streams that have them.
        limit: At most so many records of each stream.
        full_refresh: Fetch from the beginning instead of from the last cursor.
        fetch: Whether to ask the source at all.

    Raises:
        SourceError: A stream couldn't be fetched; ``error.report`` tells what was, ``error.load`` what was loaded.
        IngestError: As ``fetch_source`` and ``load_source``.
    """
    from dagster_project.ingest.load.memory import keep_little
    from dagster_project.ingest.load.run import load_source

    keep_little()
    fetched: FetchReport | None = None
    failure: SourceError | None = None
    if fetch:
        from dagster_project.ingest.fetch.run import fetch_source

        try:
            fetched = fetch_source(
                card, runtime, streams=streams, partition=partition, limit=limit, full_refresh=full_refresh
            )
        except SourceError as error:
            failure = error
            fetched = getattr(error, "report", None)
    try:
        loaded = load_source(card, runtime, streams=streams, partition=partition, limit=limit)
    except DataRefusedError as error:
        if failure is None:
            raise
        # Too few rows are a consequence of what couldn't be fetched, so that is what to say first.
        failure.add_note(f"What was landed could not be loaded either: {error}")
        raise failure from error
    except IngestError as error:
        if failure is not None:
            error.add_note(f"Before that the fetch had failed: {failure}")
        raise
    if limit is None:
        write_out(card, runtime, streams)
    if failure is not None:
        failure.load = loaded  # type: ignore[attr-defined]
        try:
            loaded.refuse_unreadable(card.source)
        except UnreadableObjectsError as error:
            failure.add_note(str(error))
        raise failure
    return RunReport(fetched, loaded)


def write_out(card: SourceCard, runtime: Runtime, streams: Sequence[str] | None = None) -> None:
    """Write out as files what loads brought, where the card says so.

    Raises:
        IngestError: As ``write_outputs``.
    """
    from dagster_project.ingest.cards.file import FileSourceCard

    if isinstance(card, FileSourceCard) and card.output is not None:
        from dagster_project.ingest.output.write import write_outputs

        write_outputs(card, runtime, streams)


def replay_source(
    card: SourceCard,
    runtime: Runtime,
    *,
    streams: Sequence[str] | None = None,
    partition: str = "",
    load_id: int | None = None,
    since: datetime | None = None,
    batches: Sequence[int] = (),
) -> RunReport:
    """Load landed bytes again, without network: everything, or what one load took, or what was sealed since.

    Streams that append are emptied of the replayed loads' rows first, in the same transaction; streams that merge are
    merged again. Rows that leave the quarantine are marked with this load.

    Raises:
        CardError: A part of a stream was asked for that can't be loaded by itself.
        IngestError: As ``load_source``.
    """
    from dagster_project.ingest.load.run import Replay, load_source

    chosen = Replay(load_id=load_id, since=since, batches=tuple(batches))
    loaded = load_source(card, runtime, streams=streams, partition=partition, replay=chosen)
    write_out(card, runtime, streams)
    return RunReport(None, loaded)


def preview(card: SourceCard, runtime: Runtime, stream: str, limit: int = 5) -> list[dict[str, Any]]:
    """Fetch a little of one stream and show it typed, under the columns' names; needs no database and leaves nothing.

    Values that don't fit a declared type are shown as text; in a load their rows would go to the quarantine.

    Raises:
        SourceError: As ``fetch_source``.
    """
    return look(card, runtime, stream, limit).rows


def look(card: SourceCard, runtime: Runtime, stream: str, limit: int = 5) -> Look:
    """Preview a stream, and tell what a load would say to its rows: refused ones, names that are in none of them.

    Raises:
        SourceError: As ``fetch_source``.
    """
    from dagster_project.ingest.cards.web import WebStream, nothing_on
    from dagster_project.ingest.fetch.run import fetch_sample
    from dagster_project.ingest.load.preview import look_at
    from dagster_project.ingest.parse import read

    stream_card = card.stream(stream)
    everything = stream_card.model_copy(update={"ignore": []})
    with fetch_sample(card, runtime, stream, limit) as sample:

        def chunks() -> Iterator[tuple[LandedObject, Chunk]]:
            left = limit
            for landed in sample.objects:
                if left <= 0:
                    return
                for chunk in read(card, everything, landed, partial(sample.open, landed), limit=left):
                    left -= chunk.rows
                    yield landed, chunk

        searched: dict[str, str] = {}
        if isinstance(stream_card, WebStream):
            searched = {name: how for name, rule in stream_card.fields.items() if (how := rule.css or rule.xpath)}
        found = look_at(stream_card, chunks(), limit, searched)
        found.warnings[:0] = [warning for done in sample.report.streams.values() for warning in done.warnings]
        if isinstance(stream_card, WebStream) and not found.rows and not found.unread:
            found.warnings += nothing_on(stream_card, len(sample.objects))
        return found
