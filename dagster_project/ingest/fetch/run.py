"""Fetching a source: the lock, the database connection, the fetcher of the card's kind, the report.

The fetchers themselves are in ``rest``, ``web`` and ``files``; they are imported when a card needs them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from dagster_project.ingest.cards.base import SourceCard
from dagster_project.ingest.errors import CardError, DatabaseError
from dagster_project.ingest.fetch.report import FetchFailed, FetchInterrupted, FetchReport
from dagster_project.ingest.fetch.session import FetchSession
from dagster_project.ingest.landing.lock import source_lock, take_lane_lock, take_source_lock
from dagster_project.ingest.landing.log import LandingLog, Log
from dagster_project.ingest.landing.memory import MemoryLog
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.runtime import Progress, Runtime

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")
LOCK_WAIT = 60.0
"""Seconds for which a second fetch of a source waits for the first."""


class Fetcher(Protocol):
    """Fetches the sources of one kind of card."""

    def fetch(self, session: FetchSession) -> None:
        """Land what is new of the session's streams, one batch per stream, and seal each batch that is whole.

        A stream's failure is held in (``with session.open(...)``, or ``StreamBatch.fail``); what is raised here stops
        the whole source.
        """
        ...


# Card class -> where its fetcher is. Names, so that a fetcher's libraries are imported only where they are used.
FETCHERS: dict[str, str] = {
    "RestApiSourceCard": "dagster_project.ingest.fetch.rest:RestFetcher",
    "WebSourceCard": "dagster_project.ingest.fetch.web:WebFetcher",
    "FileSourceCard": "dagster_project.ingest.fetch.files:FileFetcher",
}


def fetcher_for(card: SourceCard) -> Fetcher:
    """Make the fetcher of a card's kind.

    Raises:
        CardError: Nothing fetches such cards.
    """
    for kind in type(card).__mro__:
        if kind.__name__ in FETCHERS:
            module, _, name = FETCHERS[kind.__name__].partition(":")
            fetcher: Fetcher = getattr(import_module(module), name)()
            return fetcher
    raise CardError(f"source {card.source!r}: nothing fetches a {type(card).__name__}")


def fetch_source(
    card: SourceCard,
    runtime: Runtime,
    *,
    streams: Iterable[str] | None = None,
    partition: str = "",
    limit: int | None = None,
    full_refresh: bool = False,
    arrivals: bool = False,
    lane: tuple[int, int] | None = None,
    lock_wait: float = LOCK_WAIT,
) -> FetchReport:
    """Fetch a source's streams into sealed batches; go on where an interrupted fetch stopped.

    Args:
        card: What to fetch and how.
        runtime: Connection, archive, values.
        streams: Names of the streams; all by default.
        partition: The time window, for streams that have them.
        limit: Stop each stream after so many records.
        full_refresh: Start at nothing instead of at the last cursor.
        arrivals: Land what is announced of a bucket, and don't list what else is in it.
        lane: Of a bucket only this share of what is announced, as (2, 3); other shares may be fetched meanwhile.
        lock_wait: Seconds to wait for another fetch of the same source.

    Raises:
        FetchFailed: Streams failed for good. ``error.report`` tells what the others did.
        FetchInterrupted: Streams failed in a way that may pass; the next fetch goes on where they stopped.
        CardError: The card asks for what can't be.
        LandingError: The archive can't be written.
        DatabaseError: The database is out of reach or refused.
    """
    names = _names(card, streams)
    started = time.monotonic()
    fetcher = fetcher_for(card)
    database = _Database(card.source, runtime, lock_wait, None if lane is None else f"{lane[0]}/{lane[1]}")
    with database.locked():
        session = FetchSession(
            card,
            runtime,
            database.do,
            streams=names,
            partition=partition,
            limit=limit,
            full_refresh=full_refresh,
            arrivals=arrivals or lane is not None,
            lane=lane,
        )
        fetcher.fetch(session)
    report = session.report
    report.seconds = time.monotonic() - started
    if report.failed:
        raise (FetchInterrupted if session.transient else FetchFailed)(report)
    runtime.progress(
        Progress(card.source, "done", message="fetched", bytes=sum(s.bytes for s in report.streams.values()))
    )
    return report


@dataclass(frozen=True, slots=True)
class Sample:
    """What a preview fetched, as long as it lasts."""

    objects: list[LandedObject]
    open: Callable[[LandedObject], BinaryIO]
    report: FetchReport


@contextmanager
def fetch_sample(card: SourceCard, runtime: Runtime, stream: str, limit: int) -> Iterator[Sample]:
    """Fetch a few records of one stream into a temporary folder, without a database.

    Raises:
        SourceError: As ``fetch_source``.
    """
    names = _names(card, [stream])
    log = MemoryLog()
    with tempfile.TemporaryDirectory(prefix="bindery-preview-") as folder:
        session = FetchSession(
            card,
            replace(runtime, landing=folder),
            lambda work: work(log),
            streams=names,
            limit=limit,
            full_refresh=True,
        )
        fetcher_for(card).fetch(session)
        if session.report.failed:
            raise (FetchInterrupted if session.transient else FetchFailed)(session.report)
        batch = log.newest_sealed(card.source, stream, "")
        objects = [] if batch is None else list(log.objects(batch.batch_id))
        yield Sample(objects, lambda landed: session.archive.open(landed.uri or "", landed.sha256), session.report)


class _Database:
    """One connection that holds the source's lock; opened once more where it gets lost."""

    def __init__(self, source: str, runtime: Runtime, wait: float, lane: str | None = None) -> None:
        self._source = source
        self._lane = lane
        self._runtime = runtime
        self._wait = wait
        self._connection: psycopg.Connection | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Connect and be the only fetch of the source."""
        import psycopg

        try:
            self._connection = self._open()
            with source_lock(self._connection, self._source, wait=self._wait, on_wait=self._tell, lane=self._lane):
                yield
        except psycopg.Error as error:
            raise _database_error(error) from error
        finally:
            if self._connection is not None:
                self._connection.close()

    def do(self, work: Callable[[Log], Any]) -> Any:
        """Do something with the log; where the connection is lost, do it once more on a new one."""
        import psycopg

        assert self._connection is not None
        try:
            return work(LandingLog(self._connection))
        except psycopg.Error as error:
            if not (self._connection.closed or self._connection.broken):
                raise _database_error(error) from error
        try:
            self._connection.close()
            self._connection = self._open()
            lane = self._lane
            mine = (
                take_source_lock(self._connection, self._source)
                if lane is None
                else take_lane_lock(self._connection, self._source, lane)
            )
            if not mine:
                raise DatabaseError(
                    f"the connection to Postgres was lost, and another fetch of {self._source!r} began meanwhile"
                )
            return work(LandingLog(self._connection))
        except psycopg.Error as error:
            raise _database_error(error) from error

    def _open(self) -> psycopg.Connection:
        connection = self._runtime.connect()
        # Statements commit by themselves: nothing stays open while the network is asked.
        connection.autocommit = True
        return connection

    def _tell(self, message: str) -> None:
        self._runtime.progress(Progress(self._source, "fetch", message=message))


def _names(card: SourceCard, streams: Iterable[str] | None) -> tuple[str, ...]:
    if streams is None:
        return tuple(stream.name for stream in card.all_streams)
    names = tuple(dict.fromkeys(streams))
    for name in names:
        try:
            card.stream(name)
        except KeyError as error:
            raise CardError(str(error.args[0])) from None
    return names


def _database_error(error: psycopg.Error) -> DatabaseError:
    return DatabaseError(f"the landing log can't be used: {str(error).strip() or type(error).__name__}")
