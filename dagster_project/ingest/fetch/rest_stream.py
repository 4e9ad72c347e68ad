"""Reading one stream of an API: pages after pages, landed as they come.

A page is landed before the next one is asked for, together with the next request, so that whatever ends the fetch costs
at most one request. What the pages say about the next one is the paginators' matter (``paginators``), where the last
fetch ended the cursor's (``cursor``), which parents to ask for the parents' (``parents``).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

import msgspec

from dagster_project.ingest.cards.rest import Parent, RestStream
from dagster_project.ingest.errors import SourceError, TransientSourceError
from dagster_project.ingest.fetch.cursor import CursorTrack
from dagster_project.ingest.fetch.document import Records, read_document, read_lines
from dagster_project.ingest.fetch.hints import hints
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.message import Answer, Request
from dagster_project.ingest.fetch.paginators import (
    PAGES,
    Guard,
    Page,
    PageRequest,
    Stepping,
    fingerprint_of,
    make_paginator,
)
from dagster_project.ingest.fetch.parents import ParentRecord, batches_to_read, lists_all, parents_of
from dagster_project.ingest.fetch.session import FetchSession, StreamBatch
from dagster_project.ingest.fetch.unpaged import Ends

GONE = frozenset({404, 410})
_REFUSED = frozenset({401, 403})
_LINES = 1000


class _StartOver(Exception):
    """An interrupted fetch can't be gone on with; its batch is abandoned."""


@dataclass(slots=True)
class _Run:
    """One run of pages: the stream's, or that of one of its parents."""

    resume: dict[str, Any] = field(default_factory=dict)
    """Where it was interrupted; empty where it begins."""
    parent: ParentRecord | None = None
    batches: list[int] = field(default_factory=list)
    """The parent's batches that the child's batch goes through."""

    @property
    def scope(self) -> str:
        return self.parent.value if self.parent else ""


@dataclass(slots=True)
class _Look:
    """What fetching sees of a page."""

    document: Any
    count: int
    fresh: int
    """Records that aren't known from earlier fetches, as far as the cursor tells."""
    digest: str


def fingerprint_of_stream(session: FetchSession, client: HttpClient, stream: RestStream) -> str:
    """Give the identity of what a stream asks for: a batch that was begun for something else isn't gone on with."""
    parts = {"path", "method", "json_body", "records", "format", "paginator", "parent", "cursor"}
    asked = [
        client.base_url,
        stream.model_dump(mode="json", include=parts),
        {name: session.value(value) for name, value in stream.params.items()},
        stream.write == "replace",
        session.limit,
    ]
    return hashlib.blake2b(msgspec.json.encode(asked), digest_size=16).hexdigest()


class RestStreamFetch:
    """One stream's part of a fetch."""

    def __init__(self, session: FetchSession, client: HttpClient, stream: RestStream) -> None:
        self._session = session
        self._client = client
        self._stream = stream
        self._records = Records(stream.records)
        self._headers = {name: session.value(value) for name, value in stream.headers.items()}
        self._params = {name: session.value(value) for name, value in stream.params.items()}
        self._max_pages = None if stream.max_pages is None else session.runtime.number(stream.max_pages)
        self._cursor: CursorTrack | None = None
        self._pages = 0
        self._count = 0
        self._empty = 0
        """Pages without records, one after another."""
        self._cut = False
        self._ends = Ends()

    def run(self) -> None:
        """Fetch until nothing is left: one batch, or a second after one that was interrupted."""
        name, parent = self._stream.name, self._stream.parent
        if parent is not None and (failed := self._session.errors.get(parent.stream)) is not None:
            kind = TransientSourceError if failed.transient else SourceError
            self._session.fail(name, kind(f"its parent {parent.stream!r} failed"))
            return
        again = True
        while again:
            again = False
            fingerprint = fingerprint_of_stream(self._session, self._client, self._stream)
            try:
                with self._session.open(name, fingerprint) as batch:
                    again = self._batch(batch)
            except _StartOver:
                again = True

    def _batch(self, batch: StreamBatch) -> bool:
        """Fetch one batch; tell whether there is reason for another."""
        resume = batch.resume or {}
        self._pages, self._count, self._cut = resume.get("pages", 0), resume.get("records", 0), False
        self._ends = Ends(**resume.get("ends", {}))
        batch.figures.records = self._count
        if self._stream.parent is not None:
            return self._children(batch, self._stream.parent, resume)
        self._cursor = None
        if self._stream.cursor is not None and self._stream.write != "replace":
            self._cursor = CursorTrack(self._stream.cursor, batch.cursor_start, resume.get("cursor"))
        self._read(batch, _Run(resume))
        cursor = self._cursor
        if cursor is not None and self._count and not cursor.seen:
            batch.warn(f"no record has `cursor.field: {cursor.field}`: every fetch reads everything")
        # Asked for what is new, a source has often no more than one page of it.
        if cursor is None or cursor.start is None or not cursor.param:
            self._doubt(batch)
        complete = not self._cut and not self._ends.short and (cursor is None or cursor.start is None)
        batch.seal(self._proposed(), complete=complete)
        return False

    def _children(self, batch: StreamBatch, card: Parent, resume: dict[str, Any]) -> bool:
        """Read the pages of every parent that was landed since the last time."""
        session = self._session
        source, partition = session.card.source, session.partition
        covered = (batch.cursor_start or {}).get("parent_batch", 0)
        sealed = session.log(lambda log: log.sealed_since(source, card.stream, partition, covered))
        ids = resume.get("batches") or batches_to_read(sealed)
        at = resume.get("parent", -1)
        parent = cast(RestStream, session.card.stream(card.stream))
        if ids and not resume:
            batch.advance({"batches": ids})  # from here on the parents needn't be asked for again
        for record in parents_of(batch, card, parent, ids):
            if record.index < at:
                continue
            if self._bounded():
                self._cut = True
                break
            self._read(batch, _Run(resume if record.index == at else {}, record, ids))
        last = ids[-1] if ids else covered
        self._doubt(batch)
        complete = not self._cut and not self._ends.short and lists_all([b for b in sealed if b.batch_id in ids])
        batch.seal({"parent_batch": last} if last else None, complete=complete)
        # Parents that were landed while an interrupted batch went through the earlier ones.
        return any(b.batch_id > last for b in sealed)

    def _doubt(self, batch: StreamBatch) -> None:
        """Say where the first page may not have been everything; then the batch isn't complete, nor its cursor sure."""
        if self._ends.doubt is not None:
            batch.warn(self._ends.doubt)
            self._cut = True

    def _read(self, batch: StreamBatch, run: _Run) -> None:
        """Read one run of pages to its end or to the card's bounds."""
        if run.resume.get("done"):
            return
        pager = make_paginator(self._stream.paginator)
        guard = Guard()
        following: PageRequest | None
        if run.resume:
            for landed in batch.landed():
                if landed.meta.get("scope", "") == run.scope:
                    guard.seed(landed.fingerprint, landed.meta.get("hash"))
            following = pager.restore(run.resume["pager"])
        else:
            following = pager.first(self._first(run))
        interrupted = bool(run.resume)
        self._empty = 0
        while following is not None:
            if self._bounded():
                self._cut = True
                break
            self._refuse_endless(pager, following)
            following = self._page(batch, run, following, pager, guard, interrupted=interrupted)
            interrupted = False
        if pager.warning:
            batch.warn(pager.warning)

    def _first(self, run: _Run) -> PageRequest:
        """Give the run's request, before the paginator adds to it."""
        path, params = self._stream.path, dict(self._params)
        if run.parent is not None and self._stream.parent is not None:
            mark = "{" + self._stream.parent.placeholder + "}"
            path = path.replace(mark, quote(run.parent.value, safe=""))
            params = {name: value.replace(mark, run.parent.value) for name, value in params.items()}
        if "://" not in path:
            path = self._client.base_url.rstrip("/") + ("/" + path.lstrip("/") if path else "")
        if self._cursor is not None and self._cursor.param and self._cursor.begin is not None:
            params[self._cursor.param] = str(self._cursor.begin)
        return PageRequest(path, params, self._stream.json_body)

    def _page(
        self,
        batch: StreamBatch,
        run: _Run,
        asked: PageRequest,
        pager: Stepping,
        guard: Guard,
        *,
        interrupted: bool,
    ) -> PageRequest | None:
        """Ask for one page, land it, and give the request after it."""
        request = Request(
            self._client.hosts.upgrade(asked.url),
            self._stream.method,
            params=asked.params,
            headers={"Accept": "application/json, */*;q=0.5", **self._headers},
            json_body=asked.body,
            repeatable=True,
        )
        url = self._client.redactor.url(request.full_url)
        fingerprint = fingerprint_of(self._stream.method, asked, run.scope)
        guard.request(fingerprint, url)
        answer = self._client.send(request, figures=batch.figures)
        try:
            if answer.status in GONE and self._stream.not_found == "ignore":
                batch.figures.not_found += 1
                batch.advance(self._state(run, pager, done=True), self._proposed())
                return None
            look = self._look(answer, url)
            if look.count:
                guard.page(look.digest, url)
            following = pager.next(Page(answer.url, answer.headers, look.document), look.count)
        except SourceError as error:
            answer.close()
            if interrupted and answer.status not in _REFUSED:
                batch.abandon(
                    f"the place where an interrupted fetch stopped is gone ({error}): the stream is read from its start"
                )
                raise _StartOver from None
            raise
        if not self._pages:
            for hint in hints(self._stream, look.document, look.count, answer.headers):
                batch.warn(hint)
        self._pages += 1
        self._count += look.count
        self._empty = 0 if look.count else self._empty + 1
        batch.figures.records += look.count
        self._ends.take(pager)
        state = self._state(run, pager, done=following is None)
        with answer:
            if look.fresh:
                batch.land(
                    answer.body(),
                    fingerprint=fingerprint,
                    origin=url,
                    media_type=answer.media_type,
                    meta=self._meta(run, answer, look),
                    resume=state,
                    cursor=self._proposed(),
                )
            else:
                batch.figures.unchanged += bool(look.count)
                batch.advance(state, self._proposed())
        return following

    def _look(self, answer: Answer, url: str) -> _Look:
        """Look into a page as far as fetching needs."""
        if not answer.ok:
            raise self._client.refusal(answer)
        if self._stream.format == "jsonl":
            return self._look_at_lines(answer)
        data = answer.read()
        if answer.status == 204 or (not data.strip() and answer.headers.get("Content-Length") == "0"):
            return _Look(None, 0, 0, "")
        asked = url if answer.url == url else f"{url}, redirected to {answer.url},"
        document = read_document(data, asked, answer.headers.get("Content-Type", ""), self._client.redactor)
        records = self._records.of(document, url)
        fresh = self._seen(records)
        return _Look(document, len(records), fresh, Guard.digest(records) if records else "")

    def _look_at_lines(self, answer: Answer) -> _Look:
        body = answer.body()
        digest = hashlib.blake2b(digest_size=Guard.digest_size)
        count = fresh = 0
        some: list[Any] = []
        for record in read_lines(io.BytesIO(body) if isinstance(body, bytes) else body):
            count += 1
            some.append(record)
            if len(some) == _LINES:
                fresh += self._seen(some)
                digest.update(Guard.digest(some).encode())
                some.clear()
        fresh += self._seen(some)
        digest.update(Guard.digest(some).encode())
        return _Look(None, count, fresh, digest.hexdigest())

    def _seen(self, records: list[Any]) -> int:
        if self._cursor is None:
            return len(records)
        fresh = self._cursor.see(records)
        # Where the source was asked for what is new, it said so: all of it counts.
        return fresh if self._cursor.drops_old else len(records)

    def _meta(self, run: _Run, answer: Answer, look: _Look) -> dict[str, Any]:
        meta: dict[str, Any] = {"status": answer.status, "url": answer.url, "records": look.count, "hash": look.digest}
        for name in ("ETag", "Last-Modified", "Content-Type"):
            if value := answer.headers.get(name):
                meta[name.lower().replace("-", "_")] = value
        if run.parent is not None:
            meta["scope"] = run.scope
            if run.parent.include:
                meta["parent"] = run.parent.include
        if self._cursor is not None and self._cursor.drops_old and self._cursor.begin is not None:
            meta["cursor"] = {"field": self._cursor.field, "above": self._cursor.begin}
        return meta

    def _state(self, run: _Run, pager: Stepping, *, done: bool) -> dict[str, Any]:
        """Give what another process needs to go on after this page."""
        state: dict[str, Any] = {"pages": self._pages, "records": self._count, "done": done}
        if not done:
            state["pager"] = pager.state()
        if ends := self._ends.state():
            state["ends"] = ends
        if self._cursor is not None:
            state["cursor"] = self._cursor.state()
        if run.parent is not None:
            state |= {"parent": run.parent.index, "batches": run.batches}
        return state

    def _bounded(self) -> bool:
        """Tell whether the caller's limit or the card's ``max_pages`` is reached."""
        limit = self._session.limit
        return (limit is not None and self._count >= limit) or (
            self._max_pages is not None and self._pages >= self._max_pages
        )

    def _refuse_endless(self, pager: Stepping, following: PageRequest) -> None:
        """Refuse to go on where pages don't seem to end. All pages up to here are landed: the next fetch goes on here.

        Raises:
            SourceError: Too many pages, or too many without a record.
        """
        many, empty = self._max_pages is None and pager.pages >= PAGES, self._empty >= self._stream.max_empty_pages
        if not many and not empty:
            return
        url = self._client.redactor.url(Request(following.url, params=following.params).full_url)
        if many:
            raise SourceError(
                f"{PAGES} pages and no end: {url} would be the next. Set `max_pages` in the card to the most that the "
                "source may have, and the next fetch goes on from here; if it has fewer, see `paginator`"
            )
        raise SourceError(
            f"{self._empty} pages one after another have no records and name a next one: {url} would be the next. "
            "If the source has such gaps, raise `max_empty_pages` in the card; if not, see `paginator` and `records`, "
            "or bound it with `max_pages`"
        )

    def _proposed(self) -> dict[str, Any] | None:
        if self._cursor is None:
            return None
        return self._cursor.proposed(cut=self._cut, limited=self._session.limit is not None)
