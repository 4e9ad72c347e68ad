"""Fetching uploads: objects of a bucket, landed as they are, each observation once.

Whatever is new is announced first, by a notification or by a list of the bucket; then what is announced is landed.
Bytes of a versioned bucket stay where they are, since a version never changes. Others are copied by S3 where landing
is a bucket too, so that an upload that is overwritten later can still be replayed; otherwise they are read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dagster_project.ingest.errors import IngestError, LandingError, SourceError, TransientSourceError
from dagster_project.ingest.fetch.folder import Passed
from dagster_project.ingest.fetch.uploads import Upload, list_uploads, upload_of, wants
from dagster_project.ingest.fetch.waiting import give_up
from dagster_project.ingest.landing.archive import Stored, is_compressed

if TYPE_CHECKING:
    from dagster_project.ingest.cards.file import FileSourceCard, FileStream
    from dagster_project.ingest.fetch.session import FetchSession, StreamBatch
    from dagster_project.ingest.landing.model import LandedObject
    from dagster_project.ingest.s3.copy import Head
    from dagster_project.ingest.s3.place import Place

PAGE: Final = 1000
"""Objects announced in one commit."""
TRIES: Final = 3
"""How often an object that is overwritten while it is read is begun anew."""
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of one announced object."""

    row: LandedObject
    upload: Upload
    stored: Stored | None = None
    passed: str | None = None
    """Why nothing needs to be landed."""
    failed: str | None = None
    """Why it can't be."""
    gone: bool = False
    passing: bool = False
    """Whether the failure may pass: then it stays announced."""


def fetch_bucket(session: FetchSession, card: FileSourceCard, place: Place) -> None:
    """Land the new objects of each stream."""
    from dagster_project.ingest.cards.file import FileStream

    for name in session.streams:
        stream = card.stream(name)
        assert isinstance(stream, FileStream)
        _StreamOfObjects(session, card, stream, place).fetch()


class _StreamOfObjects:
    """One stream of one fetch."""

    def __init__(self, session: FetchSession, card: FileSourceCard, stream: FileStream, place: Place) -> None:
        self._session = session
        self._card = card
        self._stream = stream
        self._place = place
        self._errors: list[str] = []
        self._transient = True

    def fetch(self) -> None:
        session, name = self._session, self._stream.name
        session.figures(name)
        if session.full_refresh and session.limit is None and self._stream.write == "append":
            give_up(session, self._stream, session.waiting(name))
        if session.lane is None:
            session.log(lambda log: log.seal_shares(session.card.source, name))
        opened = session.log(lambda log: log.open_one(session.card.source, name, session.partition))
        batch = self._open() if opened is not None else None
        unseen = False
        try:
            if not session.arrivals:
                unseen = self._list()
            rows = self._wanted(session.log(lambda log: log.announced(session.card.source, name)))
            if session.limit is not None:
                rows = rows[:1]
            for share in self._shares(rows):
                batch = self._land_share(batch, share, unseen)
        except SourceError as error:
            self._errors.append(str(error))
            self._transient = self._transient and error.transient
        if self._errors:
            session.fail(name, _failure(self._errors, self._transient))

    def _open(self) -> StreamBatch:
        return self._session.open(self._stream.name, repr((1, str(self._place), sorted(self._stream.patterns))))

    def _list(self) -> bool:
        """Announce what the bucket holds and the log doesn't know; tell whether objects may be missing."""
        session, name = self._session, self._stream.name
        passed: list[Passed] = []
        page: list[Upload] = []

        def announce() -> None:
            found = list(page)
            again = session.full_refresh
            session.log(lambda log: log.announce_listed(session.card.source, name, found, again=again))
            page.clear()

        for upload in list_uploads(self._place, self._stream.patterns, passed):
            page.append(upload)
            if len(page) == PAGE:
                announce()
            if session.limit is not None:
                break
        announce()
        for why in dict.fromkeys(each.why for each in passed):
            names = [each.name for each in passed if each.why == why]
            session.warn(name, f"passed over: {_some(names)}: {why}")
        return bool(passed)

    def _wanted(self, rows: list[LandedObject]) -> list[LandedObject]:
        """Put announced rows into order, and settle those that nothing can come of."""
        if (lane := self._session.lane) is not None:
            # By key, so that what happened to one key stays in order.
            rows = [row for row in rows if zlib.crc32(row.origin.encode()) % lane[1] == lane[0] - 1]
        newest = {row.origin: row.landing_id for row in rows}
        kept = []
        for row in rows:
            if "bucket" not in row.meta or row.meta["bucket"] != self._place.bucket:
                self._pass(row, "the card reads another place by now")
            elif not wants(self._stream.patterns, row.origin):
                self._pass(row, "the card's patterns leave it out by now")
            elif "version" not in row.meta and newest[row.origin] != row.landing_id:
                self._pass(row, "it was overwritten before it was read")
            else:
                kept.append(row)
        if self._card.order == "modified":
            kept.sort(
                key=lambda row: (str(row.meta.get("modified_at") or row.meta.get("happened_at") or ""), row.origin)
            )
        else:
            kept.sort(key=lambda row: (row.origin, row.landing_id or 0))
        return kept

    def _shares(self, rows: list[LandedObject]) -> Iterator[list[LandedObject]]:
        """Put objects into batches that a load can take one after another; together where they mean only that."""
        stream, most = self._stream, self._session.runtime.load_bytes
        share: list[LandedObject] = []
        size = 0
        for row in rows:
            bytes_ = int(row.meta.get("size") or 0)
            if share and size + bytes_ > most and stream.write != "replace" and stream.missing == "keep":
                yield share
                share, size = [], 0
            share.append(row)
            size += bytes_
        yield share

    def _land_share(self, batch: StreamBatch | None, share: list[LandedObject], unseen: bool) -> StreamBatch | None:
        """Land some objects and seal their batch; give None, for the next share has a batch of its own."""
        session, name = self._session, self._stream.name
        origins = [row.origin for row in share]
        last = {} if session.full_refresh else session.last_seen(name, origins)
        for brought in self._bring_all(share, last):
            if self._settled(brought, last):
                continue
            assert brought.stored is not None
            if batch is None:
                batch = self._open()
            landed = batch.land_kept(
                brought.stored,
                fingerprint=brought.upload.fingerprint,
                origin=brought.row.origin,
                meta={**brought.row.meta, **brought.upload.meta},
                landing_id=brought.row.landing_id if (brought.row.landing_id or 0) > 0 else None,
            )
            last[brought.row.origin] = landed
        if batch is not None:
            complete = session.full_refresh and session.limit is None and not (self._errors or unseen)
            with batch:
                batch.seal(complete=complete)
        return None

    def _settled(self, brought: Brought, last: dict[str, LandedObject]) -> bool:
        """Write down what became of an object that isn't landed; tell whether it isn't."""
        before = last.get(brought.row.origin)
        if brought.passed is not None:
            self._session.figures(self._stream.name).unchanged += 1
            self._pass(brought.row, brought.passed)
        elif brought.failed is not None:
            failed, row = brought.failed, brought.row
            if not brought.gone:
                self._errors.append(failed)
                self._transient = self._transient and brought.passing
            if not brought.passing and row.landing_id is not None:
                landing_id = row.landing_id
                self._session.log(lambda log: log.mark_failed(landing_id, failed, gone=brought.gone))
        elif before is not None and brought.stored is not None and _same(brought, before):
            self._session.figures(self._stream.name).unchanged += 1
            self._pass(brought.row, "the same bytes as before")
        else:
            return False
        return True

    def _bring_all(self, share: list[LandedObject], last: dict[str, LandedObject]) -> Iterator[Brought]:
        """Bring bytes into the archive, several objects at a time, and give them in order."""
        workers = min(self._card.parallel, len(share))
        if workers <= 1:
            yield from (self._bring(row, last.get(row.origin)) for row in share)
            return
        origins = [row.origin for row in share]
        # Where several versions of one key are landed, what came before is known only in order.
        known = {origin: landed for origin, landed in last.items() if origins.count(origin) == 1}
        with ThreadPoolExecutor(workers, thread_name_prefix="uploads") as pool:
            # Not all at once: what is brought waits for its row, and a crash would bring it again.
            for start in range(0, len(share), workers * 4):
                some = share[start : start + workers * 4]
                yield from pool.map(lambda row: self._bring(row, known.get(row.origin)), some)

    def _bring(self, row: LandedObject, before: LandedObject | None) -> Brought:
        """Bring one object's bytes into the archive, unless it is gone or nothing new."""
        from botocore.exceptions import BotoCoreError, ClientError

        from dagster_project.ingest.landing.bucket_reader import ObjectGoneError, ObjectReplacedError
        from dagster_project.ingest.s3.copy import ObjectChangedError, head
        from dagster_project.ingest.s3.refusal import is_passing, worded

        upload = upload_of(self._place, row)
        where = self._place.url(row.origin)
        for _ in range(TRIES):
            try:
                found = head(self._place.bucket, upload.key, upload.version)
                if found is None:
                    what = "this version of it" if upload.version else "it"
                    return Brought(row, upload, failed=f"{where}: {what} was removed before it was read", gone=True)
                # Whatever is there by now is what is landed; a later report of the same changes nothing.
                now = replace(upload, etag=found.etag, size=found.size, modified=found.modified, version=found.version)
                if before is not None and before.meta.get("etag") == found.etag and not self._session.full_refresh:
                    return Brought(row, now, passed="the same bytes as before")
                return Brought(row, now, self._stored(now, found))
            except (ObjectChangedError, ObjectReplacedError, ObjectGoneError):
                continue
            except (BotoCoreError, ClientError) as error:
                said = worded(error, "HeadObject", where)
                return Brought(row, upload, failed=said, passing=is_passing(error))
            except LandingError as error:
                if where in str(error):  # it is the upload that can't be read, not the archive that can't be written
                    return Brought(row, upload, failed=str(error), passing=error.transient)
                raise
        return Brought(row, upload, failed=f"{where}: it is overwritten all the time", passing=True)

    def _stored(self, upload: Upload, found: Head) -> Stored:
        from dagster_project.ingest.landing.bucket import BucketArchive
        from dagster_project.ingest.landing.bucket_reader import BucketFile, reference_to

        archive = self._session.archive
        if isinstance(archive, BucketArchive):
            if upload.version is not None and self._card.copies == "unversioned":
                uri = reference_to(self._place.bucket, upload.key, upload.version)
                return Stored(uri, found.sha256, found.size)
            if (stored := archive.copy_from(self._place, upload.key, found)) is not None:
                return stored
        with BucketFile(self._place.bucket, upload.key, upload.version, found.etag) as body:
            return archive.put(_Blocks(body), compressed=is_compressed(name=upload.origin))

    def _pass(self, row: LandedObject, why: str) -> None:
        if row.landing_id is not None:
            landing_id = row.landing_id
            self._session.log(lambda log: log.mark_passed(landing_id, why))


class _Blocks:
    """A raw file whose ``read`` fills what is asked for, as the archive expects."""

    def __init__(self, raw: object) -> None:
        import io

        self._file = io.BufferedReader(raw, 1 << 20)  # type: ignore[type-var]

    def read(self, size: int = -1, /) -> bytes:
        """Give bytes, none at the end."""
        return self._file.read(size)


def _same(brought: Brought, before: LandedObject) -> bool:
    stored = brought.stored
    assert stored is not None
    if before.meta.get("etag") == brought.upload.etag:
        return True  # two versions, one after the other
    return stored.sha256 is not None and stored.sha256 == before.sha256


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _failure(errors: list[str], transient: bool) -> IngestError:
    message = "; ".join(errors[:_SHOWN]) + (f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else "")
    return TransientSourceError(message) if transient else SourceError(message)
