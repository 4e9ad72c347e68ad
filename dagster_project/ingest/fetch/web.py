"""Crawling a site: from start pages along the links that the card names, politely, each page landed once.

Pages are asked for by several threads at most, but handled strictly in the order in which they were found, so that a
crawl is the same whatever the network does. Nothing of the frontier is stored: after a kill it is rebuilt from the
archived pages of the open batches. Pages that no stream reads land under the stream name ``_pages``.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin

from dagster_project.ingest.cards.web import WebSourceCard, WebStream
from dagster_project.ingest.errors import CardError, SourceError, TransientSourceError
from dagster_project.ingest.fetch.http import Answer, HttpClient, RequestFailed
from dagster_project.ingest.fetch.limiter import Limiter, Limiters
from dagster_project.ingest.fetch.network import ForbiddenTarget
from dagster_project.ingest.fetch.pages import canonical, sitemap_urls, suspicion
from dagster_project.ingest.fetch.reach import Reach
from dagster_project.ingest.fetch.report import StreamFetch
from dagster_project.ingest.fetch.robots import Robots
from dagster_project.ingest.fetch.session import FetchSession, StreamBatch
from dagster_project.ingest.fetch.tally import Tally
from dagster_project.ingest.fetch.waiting import left_to_load
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.parse.page import Page

PAGES = "_pages"
"""Stream name of landed pages that no stream reads: listings, kept for their links."""
_GONE = {404, 410}
_DOWN = 10
"""Pages that fail one after another in a way that may pass: then the site is down."""
_MEDIA = {None, "text/html", "application/xhtml+xml", "application/xml", "text/xml", "text/plain"}
_MAX_INTERVAL = 30.0
_MAX_SITEMAPS = 500
_FRESH = timedelta(days=1)
"""How old a page of an interrupted crawl may be before it is asked for again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A page to be asked for."""

    kind: str
    url: str
    depth: int

    @property
    def key(self) -> str:
        """Names it in a batch."""
        return f"{self.kind} {self.url}"


@dataclass(slots=True)
class _Reply:
    """What asking for a page gave."""

    answer: Answer | None = None
    error: SourceError | None = None
    previous: LandedObject | None = None
    figures: StreamFetch = field(default_factory=StreamFetch)


class WebFetcher:
    """Fetches the sources of web cards."""

    def fetch(self, session: FetchSession) -> None:
        """Crawl the site for the session's streams."""
        card = session.card
        assert isinstance(card, WebSourceCard)
        base = session.value(card.base_url)
        crawl = card.crawl
        interval = max(session.seconds(crawl.delay), session.interval(card.rate_limit))
        limiters = Limiters(lambda: Limiter(interval, jitter=0.5))
        with HttpClient.of(session, card, base, limiters=limiters) as client:
            streams = [s for s in card.streams if s.name in session.streams and not left_to_load(session, s)]
            if streams:
                _Crawl(session, card, client, interval, streams).run()


class _Crawl:
    """One crawl."""

    def __init__(
        self,
        session: FetchSession,
        card: WebSourceCard,
        client: HttpClient,
        interval: float,
        streams: list[WebStream],
    ) -> None:
        self.session = session
        self.card = card
        self.client = client
        self.interval = interval
        self.max_pages = session.runtime.number(card.crawl.max_pages)
        self.streams = streams
        self.first = self.streams[0].name
        self.figures = session.figures(self.first)
        self.robots = Robots(client, self.figures)
        self.batches: dict[str, StreamBatch] = {}
        self.done: dict[str, LandedObject] = {}
        """Pages of the interrupted crawl."""
        self.held: set[tuple[str, str]] = set()
        """Stream and page of each: a crawl may have been killed when a page was landed for one of its streams alone."""
        self.last: dict[str, dict[str, LandedObject]] = {}
        self.queue: deque[Target] = deque()
        self.seen: set[tuple[str, str]] = set()
        self.landed_urls: set[tuple[str, str]] = set()
        self.tally = Tally()
        self.reach = Reach(card.pages)
        self.starts: set[str] = set()
        self.handled = 0
        self.in_a_row = 0
        self.started = time.monotonic()
        self.needed = self._needed_kinds()

    def run(self) -> None:
        """Crawl, then seal every batch, or leave them open with the reason."""
        fresh = datetime.now(UTC) - _FRESH
        try:
            for name in [PAGES, *(stream.name for stream in self.streams)]:
                batch = self.batches[name] = self.session.open(name, self._fingerprint())
                self.last[name] = {} if self.session.full_refresh else self.session.last_seen(name)
                for landed in batch.landed():
                    if landed.observed_at is None or landed.observed_at > fresh:
                        self.done.setdefault(landed.fingerprint, landed)
                        self.held.add((name, landed.fingerprint))
            for stream in self.streams:
                self.session.figures(stream.name).resumed = bool(self.done)
            self._fill()
            stopped = self._walk()
            self.tally.judge(self.handled, self.card.crawl.max_dead_rate)
            complete = stopped is None and self.tally.complete
            for stream in self.streams if stopped is None else []:
                for sentence in self.reach.unreached([stream.page]):
                    self.session.warn(stream.name, sentence)
            for batch in self.batches.values():
                batch.seal(complete=complete, pages=self.handled, **self.tally.figures)
        except (SourceError, CardError) as error:
            for batch in self.batches.values():
                batch.fail(error)
            if not self.batches:
                self.session.fail(self.first, error)
        finally:
            for sentence in self.tally.sentences():
                self.session.warn(self.first, sentence)
            self.session.report.streams.pop(PAGES, None)

    # -- what to crawl

    def _fingerprint(self) -> str:
        card = self.card
        follow = {kind: [(rule.css, rule.to) for rule in page.follow] for kind, page in card.pages.items()}
        # Streams that wait for their load count too: they are no reason to abandon the others' open batches.
        read = sorted((stream.name, stream.page) for stream in card.streams if stream.name in self.session.streams)
        return repr(
            (1, self.client.base_url, card.start, card.start_kind, card.sitemap, card.sitemap_kind, follow, read)
        )

    def _needed_kinds(self) -> set[str]:
        """List the kinds of pages that streams read, and those that lead to them."""
        needed = {stream.page for stream in self.streams}
        while True:
            more = {kind for kind, page in self.card.pages.items() if any(rule.to in needed for rule in page.follow)}
            if more <= needed:
                return needed
            needed |= more

    def _fill(self) -> None:
        if self.card.sitemap is not None and self.card.sitemap_kind in self.needed:
            self._read_sitemap(self._below(self.card.sitemap), self.card.sitemap_kind or "")
        for start in self.card.start:
            url = canonical(self._below(start))
            self.client.hosts.check(url)
            self.starts.add(url)
            self._add(Target(self.card.start_kind, url, 0))

    def _below(self, path: str) -> str:
        """Make a card's path a URL below the base URL, whose own path stays; whole URLs are what they are."""
        return urljoin(self.client.base_url.rstrip("/") + "/", path if "://" in path else path.lstrip("/"))

    def _read_sitemap(self, first: str, kind: str) -> None:
        waiting, read = [first], 0
        while waiting and read < _MAX_SITEMAPS:
            url = waiting.pop(0)
            read += 1
            try:
                answer = self.client.get(url, figures=self.figures)
                if not answer.ok:
                    raise SourceError(f"answered {answer.status}")
                urls, further = sitemap_urls(answer.read(), url)
            except SourceError as error:
                self._count("failed", url)
                self.session.warn(self.first, f"the sitemap {url} can't be read: {error}")
                continue
            if further:
                waiting += urls
            else:
                for each in urls:
                    self._offer(kind, each, 0)

    def _offer(self, kind: str, url: str, depth: int) -> None:
        """Take a link into the crawl, unless it leads elsewhere, too deep, or where robots may not go."""
        if kind not in self.needed:
            return
        try:
            url = canonical(self.client.hosts.upgrade(url))
            self.client.hosts.check(url)
        except (ForbiddenTarget, ValueError):
            self._count("elsewhere", url)
            return
        if depth > self.card.crawl.max_depth:
            self._count("too_deep", url)
            return
        self._add(Target(kind, url, depth))

    def _add(self, target: Target) -> None:
        if (target.kind, target.url) not in self.seen:
            self.seen.add((target.kind, target.url))
            self.reach.know(target.kind)
            self.queue.append(target)

    # -- the crawl itself

    def _walk(self) -> str | None:
        """Handle page after page; say why it ended early, if it did."""
        concurrency = self.card.crawl.concurrency
        running: deque[tuple[Target, Future[_Reply] | None]] = deque()
        asked = 0
        stopped: str | None = None
        with ThreadPoolExecutor(concurrency, thread_name_prefix="crawl") as pool:
            try:
                while self.queue or running:
                    stopped = stopped or self._bound(asked)
                    if stopped and not running:
                        break
                    while self.queue and len(running) < concurrency and not (stopped := stopped or self._bound(asked)):
                        target = self.queue.popleft()
                        if target.key not in self.done and not self._allowed(target):
                            continue
                        asked += 1
                        running.append((target, None if target.key in self.done else pool.submit(self._ask, target)))
                    if running:
                        target, future = running.popleft()
                        self._handle(target, future)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if stopped and not self.queue:
            return None  # that was all there is
        if stopped:
            self.session.warn(
                self.first, f"the crawl ended early: {stopped}; {len(self.queue)} known pages weren't read"
            )
        return stopped

    def _bound(self, asked: int) -> str | None:
        crawl = self.card.crawl
        if asked >= self.max_pages:
            return f"`max_pages` is {self.max_pages}"
        if crawl.max_seconds is not None and time.monotonic() - self.started > crawl.max_seconds:
            return f"`max_seconds` is {crawl.max_seconds:g}"
        limit = self.session.limit
        if limit is not None and all(self.session.figures(s.name).records >= limit for s in self.streams):
            return f"the limit is {limit}"
        return None

    def _allowed(self, target: Target) -> bool:
        if not self.card.crawl.obey_robots:
            return True
        if not self.robots.allows(target.url):
            self._count("disallowed", target.url)
            return False
        limiter = self.client.limiter(target.url)
        limiter.interval = max(limiter.interval, self.robots.delay(target.url))
        return True

    def _ask(self, target: Target) -> _Reply:
        """Ask for a page; runs in a thread and touches nothing shared."""
        reply = _Reply()
        if self.card.crawl.conditional:
            for name in self._homes(target.kind):
                previous = self.last[name].get(target.url)
                if previous is None or previous.meta.get("kind") != target.kind or previous.uri is None:
                    continue
                if self.session.archive.touch(previous.uri):  # retention may have removed what a 304 would refer to
                    reply.previous = previous
                    break
        meta = reply.previous.meta if reply.previous is not None else {}
        try:
            reply.answer = self.client.get(
                target.url, etag=meta.get("etag"), last_modified=meta.get("last_modified"), figures=reply.figures
            )
        except SourceError as error:
            reply.error = error
        return reply

    def _homes(self, kind: str) -> list[str]:
        """Name the streams that a page of a kind lands for."""
        return [stream.name for stream in self.streams if stream.page == kind] or [PAGES]

    def _handle(self, target: Target, future: Future[_Reply] | None) -> None:
        """Land what came and follow its links; in the order of the queue."""
        self.handled += 1
        if future is None:
            self._again(target, self.done[target.key])
            return
        reply = future.result()
        self.figures.requests += reply.figures.requests
        self.figures.retries += reply.figures.retries
        if reply.error is not None:
            self._failed(target, reply.error)
            return
        answer = reply.answer
        assert answer is not None
        self.in_a_row = 0
        self._adapt(target.url, answer, reply.figures.retries)
        try:
            if answer.not_modified and reply.previous is not None:
                self._unchanged(target, reply.previous)
            elif not answer.ok or answer.status == 204:
                self._count("gone" if answer.status in _GONE else "refused", target.url)
                if target.url in self.starts:
                    raise self.client.refusal(answer, "it is a start page of the card: see `start`")
            elif answer.media_type not in _MEDIA:
                self._count("beside", target.url)
            else:
                self._land(target, answer)
        finally:
            answer.close()

    def _failed(self, target: Target, error: SourceError) -> None:
        """Count a page that can't be had; stop where the site as a whole can't."""
        if isinstance(error, RequestFailed) and error.retry_at is not None:
            raise error
        if isinstance(error, ForbiddenTarget):
            self._count("elsewhere", target.url)
            return
        self._count("failed", target.url)
        if target.url in self.starts:
            raise error
        self.in_a_row = self.in_a_row + 1 if error.transient else 0
        if self.in_a_row >= _DOWN:
            raise TransientSourceError(f"{_DOWN} pages failed one after another, the last with: {error}")

    def _land(self, target: Target, answer: Answer) -> None:
        final = canonical(answer.url)
        if (target.kind, final) in self.landed_urls:
            return  # another URL redirects to the same page
        self.landed_urls |= {(target.kind, final), (target.kind, target.url)}
        body = answer.read()
        content_type = answer.headers.get("Content-Type")
        meta: dict[str, Any] = {
            "kind": target.kind,
            "url": answer.url,
            "status": answer.status,
            "content_type": content_type,
            "etag": answer.headers.get("ETag"),
            "last_modified": answer.headers.get("Last-Modified"),
            "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        for name in self._homes(target.kind):
            self.batches[name].land(
                body, fingerprint=target.key, origin=target.url, media_type=answer.media_type, meta=meta
            )
            self._tell(name)
        page = Page(body, answer.url, content_type)
        if (what := suspicion(page, target.url)) is not None:
            self._count(what, answer.url)
        if page.cut:
            self._count("cut", answer.url)
        self._follow(target, page)

    def _unchanged(self, target: Target, previous: LandedObject) -> None:
        for name in self._homes(target.kind):
            # What was asked about is what hasn't changed; another stream's last page may be an older one.
            self.batches[name].land_again(previous, fingerprint=target.key)
            self._tell(name)
        self._follow_archived(target, previous)

    def _again(self, target: Target, landed: LandedObject) -> None:
        """Take a page of the interrupted crawl as if it came now."""
        self.landed_urls |= {(target.kind, canonical(str(landed.meta.get("url")))), (target.kind, target.url)}
        for name in self._homes(target.kind):
            if (name, target.key) not in self.held:
                self.batches[name].land_again(landed, fingerprint=target.key)
            self._tell(name)
        self._follow_archived(target, landed)

    def _tell(self, name: str) -> None:
        self.session.figures(name).records += 1
        self.session.tell(name, total=min(self.handled + len(self.queue), self.max_pages))

    def _follow_archived(self, target: Target, landed: LandedObject) -> None:
        if self.card.pages[target.kind].follow:
            with self.session.archive.open(landed.uri or "", landed.sha256) as file:
                body = file.read()
            self._follow(target, Page(body, str(landed.meta.get("url")), landed.meta.get("content_type")))

    def _follow(self, target: Target, page: Page) -> None:
        rules = self.card.pages[target.kind].follow
        links = [page.links(rule.css) for rule in rules]
        self.reach.read(target.kind, map(len, links))
        for rule, urls in zip(rules, links, strict=True):
            for url in urls:
                self._offer(rule.to, url, target.depth + 1)

    # -- pace and verdict

    def _adapt(self, url: str, answer: Answer, retries: int) -> None:
        """Go slower where the host is slow or says that it is too much, and faster again when it isn't."""
        limiter = self.client.limiter(url)
        least = max(self.interval, self.robots.delay(url) if self.card.crawl.obey_robots else 0.0)
        if retries:
            limiter.interval = min(max(limiter.interval * 1.5, least, 0.05), max(_MAX_INTERVAL, least))
            return
        # A card that wants no pause gets none for slowness; else the host's own time is its measure.
        wanted = max(least, min(answer.elapsed, _MAX_INTERVAL)) if self.interval else least
        eased = wanted + (limiter.interval - wanted) * 0.8
        limiter.interval = eased if eased > wanted + 0.01 else wanted

    def _count(self, word: str, url: str) -> None:
        if self.tally.add(word, self.client.redactor.url(url)) and word == "gone":
            self.figures.not_found += 1
