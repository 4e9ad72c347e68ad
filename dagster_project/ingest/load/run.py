"""Loads: everything landed and not yet taken, for all chosen streams of a source; each load is one transaction.

Data, quarantine, schema map, cursor, load log and taken marks are committed together or not at all. Network is over
before it begins: bytes come from the archive. One load is all there is, unless much waits (``plan``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import psycopg
from psycopg.types.json import Jsonb

from dagster_project.ingest.cards.web import WebStream, nothing_on
from dagster_project.ingest.errors import DataRefusedError, LandingError
from dagster_project.ingest.landing import retention
from dagster_project.ingest.landing.store import archive_at
from dagster_project.ingest.load import batches
from dagster_project.ingest.load.batches import Replay, Work
from dagster_project.ingest.load.blocks import Block, blocks
from dagster_project.ingest.load.convert import declared_type
from dagster_project.ingest.load.memory import keep_little
from dagster_project.ingest.load.plan import next_load
from dagster_project.ingest.load.reading import ObjectReader, TurnedOutUnreadableError, Unreadable
from dagster_project.ingest.load.report import LoadReport, StreamLoad
from dagster_project.ingest.load.resolve import resolve, resolve_objects
from dagster_project.ingest.load.session import Session, may_pass, open_session, translated, wait_for_turn
from dagster_project.ingest.load.stream import StreamLoader
from dagster_project.ingest.parse import read
from dagster_project.ingest.runtime import Progress, Runtime

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import SourceCard, StreamCard
    from dagster_project.ingest.chunk import Chunk
    from dagster_project.ingest.landing.model import LandedObject

TRIES: Final = 5
"""How often a load is begun when somebody else's lock ends it."""
PURGE_SECONDS: Final = 20.0
"""How long a load removes old bytes at most; the next one goes on."""
PAUSE: Final = 1.0
"""Seconds before the second try; each later pause is twice as long."""


def load_source(
    card: SourceCard,
    runtime: Runtime,
    *,
    streams: Sequence[str] | None = None,
    partition: str = "",
    replay: Replay | None = None,
    limit: int | None = None,
) -> LoadReport:
    """Load what is landed for a source: in one load, or in several where more waits than one should take.

    A load that fails leaves the ones before it as they are, and the next call goes on after them. Replays, and loads
    with a limit, are one load whatever their size.

    Args:
        card: The source's card.
        runtime: Connections, archive, and who watches.
        streams: Names of the streams; all of them by default.
        partition: Which partition's batches.
        replay: Load these batches again instead of what no load has taken.
        limit: At most so many rows of each stream, for trying things out.

    Returns:
        What was done with each stream that had something to do, over all loads; no load id where nothing was.

    Raises:
        DataRefusedError: The data break the card's contract or bounds; nothing of the load was kept.
        DatabaseError: Postgres can't be reached or refuses; nothing of the load was kept.
        LandingError: Archived bytes are gone or damaged; nothing of the load was kept.
    """
    keep_little()
    chosen = [card.stream(name) for name in streams] if streams is not None else list(card.all_streams)
    report = LoadReport(None)
    more = True
    while more:
        try:
            done, more = _load_once(card, runtime, chosen, partition, replay, limit)
        except Exception as error:
            if report.load_ids:
                _tell_of_earlier(card, runtime, report, error)
            raise
        report.add(done)
    for name, stream in report.streams.items():
        runtime.progress(Progress(card.source, "done", name, rows=stream.rows_read, bytes=stream.bytes))
    if card.archive.keep is not None:
        _remove_old_bytes(card, runtime)
    return report


def _remove_old_bytes(card: SourceCard, runtime: Runtime) -> None:
    """Do what the card's ``archive.keep`` asks for; the load is done, whatever becomes of it."""
    try:
        with runtime.connect() as connection:
            connection.autocommit = True
            if not retention.is_due(connection, card):
                return
            done = retention.purge(connection, card, archive_at(runtime.landing), seconds=PURGE_SECONDS)
    except (psycopg.Error, LandingError) as error:
        said = " ".join(str(error).split())
        runtime.progress(Progress(card.source, "warning", None, f"old bytes weren't removed (`archive.keep`): {said}"))
        return
    if done.objects:
        said = f"removed {done.objects:,} archived objects, as `archive.keep` says"
        runtime.progress(Progress(card.source, "done", None, said, bytes=done.bytes))


def _tell_of_earlier(card: SourceCard, runtime: Runtime, report: LoadReport, error: Exception) -> None:
    """Say that a backfill came so far."""
    ids = ", ".join(map(str, report.load_ids))
    said = f"what was loaded before it is kept (load {ids}); the next load goes on after it"
    error.add_note(said)
    runtime.progress(Progress(card.source, "warning", None, f"a load failed; {said}"))


def _load_once(
    card: SourceCard,
    runtime: Runtime,
    chosen: list[StreamCard],
    partition: str,
    replay: Replay | None,
    limit: int | None,
) -> tuple[LoadReport, bool]:
    """Do one load, several times where somebody else's lock or a damaged file ends it; tell whether more waits."""
    number = 0
    unreadable = Unreadable()
    while True:
        attempt = _Load(card, runtime, chosen, partition, replay, limit, unreadable)
        try:
            return attempt.run(), attempt.more
        except TurnedOutUnreadableError as late:
            unreadable.found[late.landing_id] = late.why
            attempt.tell("warning", f"{late.why}: the load begins anew, without it")
        except psycopg.Error as error:
            number += 1
            if may_pass(error) and number < TRIES:
                pause = PAUSE * 2 ** (number - 1)
                said = " ".join(str(error).split())
                attempt.tell("warning", f"a table is locked by somebody else ({said}): trying again in {pause:g} s")
                time.sleep(pause)
                continue
            failure = translated(error, card.source)
            _say_ways_on(failure, card.source, replay)
            attempt.note_failure(failure)
            raise failure from error
        except Exception as error:
            _say_ways_on(error, card.source, replay)
            attempt.note_failure(error)
            raise


def _say_ways_on(error: Exception, source: str, replay: Replay | None) -> None:
    """Say what becomes of batches that a load refuses."""
    if isinstance(error, DataRefusedError) and replay is None:
        error.add_note(
            "What is landed waits, and the next load tries it again. If it is the card's fault, correct the card and "
            f"run `bindery run {source} --load-only`; to go on without it: bindery state skip {source} (a replay can "
            "still load it)"
        )
    elif isinstance(error, LandingError) and replay is None:
        error.add_note(f"Where the bytes are lost for good, go on without what waits: bindery state skip {source}")


class _Load:
    """One try of one load."""

    def __init__(
        self,
        card: SourceCard,
        runtime: Runtime,
        streams: list[StreamCard],
        partition: str,
        replay: Replay | None,
        limit: int | None,
        unreadable: Unreadable,
    ) -> None:
        self.card = card
        self.runtime = runtime
        self.streams = streams
        self.partition = partition
        self.replay = replay
        self.limit = limit
        self.unreadable = unreadable
        self.load_id: int | None = None
        self.more = False
        """Whether batches are left for a load after this one."""
        self.started = time.time()
        self._archive = archive_at(runtime.landing)
        self._read_seconds = 0.0

    def tell(self, stage: str, message: str | None = None, stream: str | None = None, **values: Any) -> None:
        """Give a sign of life."""
        self.runtime.progress(Progress(self.card.source, stage, stream, message, **values))

    def run(self) -> LoadReport:
        """Do it, and commit."""
        begun = time.perf_counter()
        with open_session(self.runtime) as session:
            wait_for_turn(session, self.card.source, lambda message: self.tell("warning", message))
            works = {stream.name: self._work(session, stream) for stream in self.streams}
            if self.replay is None and self.limit is None:
                works = next_load(session, works, self.runtime.load_bytes)
            self.more = any(work.more for work in works.values())
            due = [stream for stream in self.streams if self._is_due(session, stream, works[stream.name])]
            if not due:
                return LoadReport(None, {}, time.perf_counter() - begun)
            self._open_log(session)
            reports = {stream.name: self._stream(session, stream, works[stream.name]) for stream in due}
            self._close_log(session, reports, [works[stream.name] for stream in due])
            self.runtime.checkpoint("before_commit")
            self.tell("commit", f"load {self.load_id}, more follow" if self.more else None)
            session.connection.commit()
        self.runtime.checkpoint("after_commit")
        for name, report in reports.items():
            for warning in report.warnings:
                self.tell("warning", warning, name)
        return LoadReport(self.load_id, reports, time.perf_counter() - begun)

    # -- what to do

    def _work(self, session: Session, stream: StreamCard) -> Work:
        if self.replay is not None:
            keep = self.card.archive.keep
            return batches.work_of_replay(session, self.card.source, stream, self.partition, self.replay, keep)
        return batches.work_of_load(session, self.card.source, stream, self.partition)

    def _is_due(self, session: Session, stream: StreamCard, work: Work) -> bool:
        """Tell whether there is anything to do: batches, or a table that the card declares and that isn't there."""
        if work.batches:
            return True
        declares = any(declared_type(rules) is not None for rules in stream.columns.values())
        return declares and session.one(
            "select not exists (select from pg_class where relnamespace = to_regnamespace('raw') and relname = %s)",
            [self.card.table(stream.name)],
        )

    # -- the load log

    def _open_log(self, session: Session) -> None:
        self.load_id = session.one(
            "insert into bindery.loads (source, kind, status, started_at, run_id, code) "
            "values (%s, %s, 'committed', to_timestamp(%s), %s, %s) returning load_id",
            [self.card.source, self._kind, self.started, self.runtime.run_id, self.runtime.code],
        )
        session.run("select set_config('bindery.load_id', %s, true)", [str(self.load_id)])

    @property
    def _kind(self) -> str:
        return "load" if self.replay is None else "replay"

    def _close_log(self, session: Session, reports: dict[str, StreamLoad], works: list[Work]) -> None:
        assert self.load_id is not None
        for (name, report), work in zip(reports.items(), works, strict=True):
            session.run(
                "insert into bindery.load_streams (load_id, source, stream, partition, rows_read, inserted, updated, "
                "unchanged, deleted, duplicates, quarantined, bytes, seconds, detail) "
                "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    self.load_id,
                    self.card.source,
                    name,
                    self.partition,
                    report.rows_read,
                    report.inserted,
                    report.updated,
                    report.unchanged,
                    report.deleted,
                    report.duplicates,
                    report.quarantined,
                    report.bytes,
                    report.seconds,
                    Jsonb(report.detail()),
                ],
            )
            batches.write_state(session, self.load_id, self.card.source, name, self.partition, work)
        batches.mark_taken(session, self.load_id, works)
        session.run("update bindery.loads set finished_at = clock_timestamp() where load_id = %s", [self.load_id])

    def note_failure(self, error: Exception) -> None:
        """Write the failed load to the log, in a transaction of its own; a database that is down has no log."""
        try:
            connection = self.runtime.connect()
        except Exception:  # noqa: BLE001 - the first error is the one to show
            return
        try:
            with connection, connection.cursor() as cursor:
                columns = "source, kind, status, started_at, run_id, code, error"
                values = [self.card.source, self._kind, "failed", self.started, self.runtime.run_id, self.runtime.code]
                cursor.execute(
                    f"insert into bindery.loads ({columns}) values (%s, %s, %s, to_timestamp(%s), %s, %s, %s)".encode(),
                    [*values, str(error)[:10_000]],
                )
        except psycopg.Error:
            return

    # -- one stream

    def _stream(self, session: Session, stream: StreamCard, work: Work) -> StreamLoad:
        assert self.load_id is not None
        begun = time.perf_counter()
        self._read_seconds = 0.0

        def tell(message: str) -> None:
            self.tell("copy", message, stream.name)

        loader = StreamLoader(session, self.card, stream, self.load_id, tell)
        loader.quarantine.keep_places = self.replay is not None
        report = loader.report
        complete = work.complete and self.limit is None
        loader.prepare(replace=work.replace, delete_loads=work.delete_loads, complete=complete)
        if self.replay is None and loader.table_is_gone and stream.write != "replace":
            report.warnings.append(
                f"{report.table} isn't there any more, though earlier loads filled it: it is made anew with what came "
                f"since. Its former rows come back with: bindery replay {self.card.source} --stream {stream.name}"
            )
        if work.note is not None:
            report.warnings.append(work.note)
        report.batches = len(work.batches)
        report.superseded = len(work.batches) - len(work.read)

        def on_block(block: Block) -> None:
            self.tell("copy", None, stream.name, rows=report.rows_read, bytes=report.bytes)
            self.runtime.checkpoint("copy")

        reader = ObjectReader(self.unreadable, all_or_nothing=stream.write == "replace")
        chunks = self._chunks(session, stream, work, loader, reader)
        loader.load(blocks(self._timed(chunks), stream.renames), on_block)
        report.stages["read"] = self._read_seconds
        self.tell("merge", None, stream.name, rows=report.rows_read)
        self.runtime.checkpoint("merge")
        loader.finish(more=work.more)
        if self.replay is not None:
            report.resolved = resolve(session, self.load_id, work.read, loader.quarantine.places)
        again = resolve_objects(session, self.load_id, self.card.source, stream.name, work.read, reader.set_aside)
        if isinstance(stream, WebStream) and not report.rows_read:
            report.warnings += nothing_on(stream, report.objects)
        report.unreadable = [why for landing_id, why in reader.set_aside.items() if landing_id not in again]
        report.seconds = time.perf_counter() - begun
        return report

    def _timed(self, items: Iterator[tuple[LandedObject, Chunk]]) -> Iterator[tuple[LandedObject, Chunk]]:
        while True:
            started = time.perf_counter()
            item = next(items, None)
            self._read_seconds += time.perf_counter() - started
            if item is None:
                return
            yield item

    def _chunks(
        self, session: Session, stream: StreamCard, work: Work, loader: StreamLoader, reader: ObjectReader
    ) -> Iterator[tuple[LandedObject, Chunk]]:
        """Read every landed object of the batches in order."""
        left = self.limit
        for batch in work.read:
            loader.drain()
            pages = batches.objects(session, batch)
            while page := next(pages, None):
                for landed in page:
                    if left is not None and left <= 0:
                        return
                    loader.report.objects += 1
                    loader.report.bytes += landed.size or 0
                    self.runtime.checkpoint("parse")
                    for chunk in reader.chunks(landed, partial(self._read, stream, landed, left)):
                        if left is not None:
                            left -= chunk.rows
                        yield landed, chunk
                loader.drain()
        reader.finish()

    def _read(self, stream: StreamCard, landed: LandedObject, limit: int | None) -> Iterator[Chunk]:
        if landed.uri is None:
            raise LandingError(
                f"landing row {landed.landing_id} ({landed.origin}) has no bytes: fetch the source again"
            )
        uri, sha256 = landed.uri, landed.sha256
        opener: Callable[[], BinaryIO] = lambda: self._archive.open(uri, sha256)  # noqa: E731
        return read(self.card, stream, landed, opener, limit=limit)


__all__ = ["LoadReport", "Replay", "StreamLoad", "load_source"]
