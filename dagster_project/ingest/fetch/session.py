"""What a fetcher works through: batches to land in, the archive, the card's values, and somebody who watches.

The session keeps the database out of the fetchers' sight. Its statements are short, serialised over threads, and
repeated once on a new connection where the old one was lost (each is idempotent).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dagster_project.ingest.cards.base import SecretRef, SettingRef, SourceCard
from dagster_project.ingest.cards.http import RateLimit
from dagster_project.ingest.durations import parse_duration
from dagster_project.ingest.errors import CardError, IngestError, LandingError, SourceError
from dagster_project.ingest.fetch.redact import Redactor
from dagster_project.ingest.fetch.report import FetchReport, StreamFetch
from dagster_project.ingest.landing.archive import Readable, Stored, is_compressed
from dagster_project.ingest.landing.model import LANE, Batch, LandedObject
from dagster_project.ingest.landing.store import archive_at
from dagster_project.ingest.runtime import Progress, Runtime

if TYPE_CHECKING:
    from dagster_project.ingest.landing.log import Log

    Do = Callable[[Callable[[Log], Any]], Any]

T = TypeVar("T")
_PROGRESS_EVERY = 0.2  # seconds


class FetchSession:
    """One fetch of one source."""

    def __init__(
        self,
        card: SourceCard,
        runtime: Runtime,
        do: Do,
        *,
        streams: tuple[str, ...],
        partition: str = "",
        limit: int | None = None,
        full_refresh: bool = False,
        arrivals: bool = False,
        lane: tuple[int, int] | None = None,
    ) -> None:
        self.card = card
        self.runtime = runtime
        self.streams = streams
        """Names of the streams that were asked for; a fetcher may need others too."""
        # A share's open batches are apart from those of other shares; sealed, they are the source's like all others.
        self.partition = partition if lane is None else f"{LANE}{lane[0]}/{lane[1]}"
        self.lane = lane
        """Which share of what is announced is wanted; all of it otherwise."""
        self.limit = limit
        """Stop a stream after this many records."""
        self.full_refresh = full_refresh
        self.arrivals = arrivals
        """Whether only what is announced is wanted: nobody is asked what else there is."""
        self.archive = archive_at(runtime.landing)
        self.redactor = Redactor()
        self.report = FetchReport(card.source)
        self.errors: dict[str, IngestError] = {}
        """Why streams failed."""
        self._do = do
        self._lock = threading.RLock()
        self._told = 0.0

    def value(self, value: str | float | SettingRef | SecretRef) -> str:
        """Give a card's value as text, following references; secrets are known to the redactor from then on."""
        if isinstance(value, SecretRef):
            return self.redactor.add(self.runtime.text(value), value.secret)
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, int | float) else self.runtime.text(value)

    def seconds(self, value: float | SettingRef) -> float:
        """Give a card's duration in seconds, following references.

        Raises:
            CardError: The setting holds no duration.
        """
        if not isinstance(value, SettingRef):
            return value
        text = self.runtime.text(value)
        try:
            return float(text)
        except ValueError:
            try:
                return float(str(parse_duration(text)))
            except ValueError as error:
                raise CardError(f"setting {value.setting}: {error}") from None

    def interval(self, rate: RateLimit | None) -> float:
        """Give the seconds between two requests that a card's rate limit asks for; 0 without one.

        Raises:
            CardError: The setting holds no number above zero.
        """
        if rate is None:
            return 0.0
        requests = self.seconds(rate.requests)
        if not requests > 0:
            raise CardError(f"`rate_limit.requests` should be above zero, got {requests:g}")
        return rate.interval(requests)

    def open(self, stream: str, fingerprint: str) -> StreamBatch:
        """Open a stream's batch, or the one that an interrupted fetch with the same fingerprint left open."""
        batch = self.log(
            lambda log: log.open_batch(self.card.source, stream, self.partition, fingerprint, self.full_refresh)
        )
        figures = self.figures(stream)
        figures.resumed = batch.resumed and batch.resume is not None
        figures.batch_id = batch.batch_id
        return StreamBatch(self, batch, figures)

    def figures(self, stream: str) -> StreamFetch:
        """Give the stream's part of the report."""
        return self.report.streams.setdefault(stream, StreamFetch())

    def fail(self, stream: str, error: IngestError) -> None:
        """Say that a stream failed where no batch of it is open; the others go on."""
        self.figures(stream).error = self.redactor.text(str(error))
        self.errors[stream] = error

    @property
    def transient(self) -> bool:
        """Whether every failure may pass."""
        return all(error.transient for error in self.errors.values())

    def log(self, work: Callable[[Log], T]) -> T:
        """Do something with the landing log, one thread at a time.

        Raises:
            DatabaseError: The database is out of reach or refused.
        """
        with self._lock:
            result: T = self._do(work)
            return result

    def waiting(self, stream: str) -> list[Batch]:
        """Give the sealed batches of a stream that hold something and that no load has taken, in order."""
        found = self.log(lambda log: log.sealed_untaken(self.card.source, stream, self.partition))
        return [batch for batch in found if batch.position > 0]

    def last_seen(self, stream: str, origins: list[str] | None = None) -> dict[str, LandedObject]:
        """Give the newest landed object of each origin of a stream, or of some origins."""
        return self.log(lambda log: log.last_seen(self.card.source, stream, origins))

    def objects(self, batch_id: int) -> list[LandedObject]:
        """Give the objects of a batch in order."""
        return self.log(lambda log: list(log.objects(batch_id)))

    def warn(self, stream: str, message: str) -> None:
        """Report something that a person should look at, once."""
        message = self.redactor.text(message)
        figures = self.figures(stream)
        if message not in figures.warnings:
            figures.warnings.append(message)
            self.runtime.progress(Progress(self.card.source, "warning", stream, message))

    def tell(self, stream: str, message: str | None = None, *, total: int | None = None) -> None:
        """Give a sign of life, not more than a few times a second."""
        now = time.monotonic()
        if message is None and now - self._told < _PROGRESS_EVERY:
            return
        self._told = now
        figures = self.figures(stream)
        self.runtime.progress(
            Progress(
                self.card.source, "fetch", stream, message, rows=figures.records or None, bytes=figures.bytes,
                requests=figures.requests, total=total,
            )
        )  # fmt: skip


class StreamBatch:
    """One stream's open batch: what a fetcher lands in. Safe for threads.

    As a context manager it holds a stream's failure in: a ``SourceError`` or ``CardError`` is written into the batch,
    which stays open, and into the report; then the fetch of the other streams goes on. Everything else (interrupts,
    the database, the archive) leaves the batch open as well and passes through.
    """

    def __init__(self, session: FetchSession, batch: Batch, figures: StreamFetch) -> None:
        self.session = session
        self.batch = batch
        self.figures = figures
        self._started = time.monotonic()

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self.batch.stream

    @property
    def resume(self) -> dict[str, Any] | None:
        """Where an interrupted fetch stopped: what was last given to ``land`` or ``advance``."""
        resume: dict[str, Any] | None = self.session.redactor.reveal(self.batch.resume)
        return resume

    @property
    def cursor_start(self) -> Any:
        """What the newest sealed batch proposed."""
        return self.batch.cursor_start

    def land(
        self,
        data: bytes | Readable | Iterable[bytes],
        *,
        fingerprint: str,
        origin: str,
        media_type: str | None = None,
        meta: dict[str, Any] | None = None,
        resume: dict[str, Any] | None = None,
        cursor: Any = None,
        name: str | None = None,
        landing_id: int | None = None,
    ) -> LandedObject:
        """Make bytes durable, then write their row and how to go on, in one commit.

        Args:
            data: The bytes, or a stream of them.
            fingerprint: Of the request or of the file's observation: one row per batch.
            origin: URL or path they came from; secrets are taken out here.
            media_type: As the source said.
            meta: What the parser needs, and ``etag``, ``last_modified`` for the next conditional request.
            resume: How the fetcher goes on after this object.
            cursor: The stream's cursor so far.
            name: A file's name, where it tells that the bytes are compressed already.
            landing_id: Of the announced row that this object fulfils.
        """
        stored = self.session.archive.put(data, compressed=is_compressed(media_type=media_type, name=name))
        return self.land_kept(
            stored, fingerprint=fingerprint, origin=origin, media_type=media_type, meta=meta, resume=resume,
            cursor=cursor, landing_id=landing_id,
        )  # fmt: skip

    def land_kept(
        self,
        stored: Stored,
        *,
        fingerprint: str,
        origin: str,
        media_type: str | None = None,
        meta: dict[str, Any] | None = None,
        resume: dict[str, Any] | None = None,
        cursor: Any = None,
        landing_id: int | None = None,
    ) -> LandedObject:
        """Write the row of bytes that the archive has already; the rest is as in ``land``."""
        landed = self._object(fingerprint, origin, media_type, meta, landing_id)
        landed.uri, landed.sha256, landed.size = stored.uri, stored.sha256, stored.size
        return self._add(landed, resume, cursor, new=stored.new)

    def land_again(
        self,
        previous: LandedObject,
        *,
        fingerprint: str,
        meta: dict[str, Any] | None = None,
        resume: dict[str, Any] | None = None,
        cursor: Any = None,
    ) -> LandedObject:
        """Land what the source says hasn't changed (304): a row of this batch over bytes that are archived already."""
        meta = {**previous.meta, **(meta or {}), "not_modified": True}
        landed = self._object(fingerprint, previous.origin, previous.media_type, meta, None)
        landed.uri, landed.sha256, landed.size = previous.uri, previous.sha256, previous.size
        return self._add(landed, resume, cursor, new=False)

    def advance(self, resume: dict[str, Any] | None, cursor: Any = None) -> None:
        """Write how to go on after a request that gave nothing to land."""
        resume = self.session.redactor.conceal(resume)
        self.session.log(lambda log: log.advance(self.batch, resume, cursor))

    def seal(self, cursor: Any = None, *, complete: bool = False, **stats: Any) -> None:
        """Declare the batch whole.

        Args:
            cursor: Where the next fetch starts.
            complete: Whether it read everything that the source has and nothing failed but pages that are gone.
            stats: Further figures to keep with the batch.
        """
        self._clock()
        self.session.log(lambda log: log.seal(self.batch, cursor, {**self._stats(), **stats, "complete": complete}))
        self.figures.sealed = True
        self.session.tell(self.stream, "sealed")

    def fail(self, error: IngestError) -> None:
        """Write why the stream stopped; the batch stays open."""
        self._clock()
        self.session.fail(self.stream, error)
        text = self.figures.error or ""
        self.session.log(lambda log: log.fail(self.batch, text, self._stats()))

    def warn(self, message: str) -> None:
        """Report something that a person should look at, once."""
        self.session.warn(self.stream, message)

    def abandon(self, why: str) -> None:
        """Give up what an interrupted fetch left, so that the stream begins anew in another batch."""
        why = self.session.redactor.text(why)
        self.warn(why)
        self.session.log(lambda log: log.abandon(self.batch, why))

    def landed(self) -> Iterator[LandedObject]:
        """Give what the batch holds already."""
        yield from self.session.objects(self.batch.batch_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._clock()
        if isinstance(error, SourceError | CardError):
            self.fail(error)
            return True
        return False

    def _object(
        self, fingerprint: str, origin: str, media_type: str | None, meta: dict[str, Any] | None, landing_id: int | None
    ) -> LandedObject:
        return LandedObject(
            source=self.session.card.source,
            stream=self.stream,
            fingerprint=fingerprint,
            origin=self.session.redactor.url(origin) if "://" in origin else self.session.redactor.text(origin),
            media_type=media_type,
            meta=meta or {},
            landing_id=landing_id,
        )

    def _add(self, landed: LandedObject, resume: dict[str, Any] | None, cursor: Any, *, new: bool) -> LandedObject:
        self.session.runtime.checkpoint("land")
        if not self.session.archive.touch(landed.uri or ""):
            raise LandingError(
                f"{landed.origin}: its archived bytes ({landed.uri}) were removed while they were being landed. "
                "Run the fetch again"
            )
        resume = self.session.redactor.conceal(resume)
        self.session.log(lambda log: log.add(self.batch, landed, resume, cursor))
        self.figures.objects += 1
        self.figures.bytes += landed.size or 0
        if not new:
            self.figures.unchanged += 1
        self.session.runtime.checkpoint("landed")
        self.session.tell(self.stream)
        return landed

    def _clock(self) -> None:
        now = time.monotonic()
        self.figures.seconds += now - self._started
        self._started = now

    def _stats(self) -> dict[str, Any]:
        figures = self.figures
        return {
            "objects": self.batch.position,
            "bytes": figures.bytes,
            "records": figures.records,
            "requests": figures.requests,
            "retries": figures.retries,
            "not_found": figures.not_found,
            "unchanged": figures.unchanged,
            "seconds": round(figures.seconds, 3),
            **({"warnings": figures.warnings[:20]} if figures.warnings else {}),
        }
