"""Paginators: which request follows an answer. One small class per kind, all with the same two methods and a state.

A paginator never looks at values of records. Its state is small and JSON-like, so that an interrupted fetch goes on
from it in another process. That pages don't go round in circles is watched by ``Guard``, for all kinds alike: where a
request or a page's records come a second time, the source is in error, not at its end.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import jmespath
import msgspec
from requests.utils import parse_header_links

from dagster_project.ingest.cards import rest as cards
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.document import brief
from dagster_project.ingest.fetch.message import Request
from dagster_project.ingest.fetch.network import join_url
from dagster_project.ingest.fetch.unpaged import absent, listed

PAGES = 100_000
"""Pages of one run after which something is wrong, whatever the pages say, unless the card names a number itself."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The part of a request that a paginator changes."""

    url: str
    params: dict[str, str] = field(default_factory=dict)
    body: Any = None

    def with_params(self, **params: str) -> PageRequest:
        """Set parameters."""
        return replace(self, params={**self.params, **params})


@dataclass(frozen=True, slots=True)
class Page:
    """What a paginator sees of an answer."""

    url: str
    """Final, after redirects: what relative links are relative to."""
    headers: Any
    document: Any = None
    """The decoded JSON; None where the answer isn't one document."""


class Stepping:
    """What all paginators share: the request given last is all there is to remember, and a number of steps."""

    warning: str | None = None
    """What a person should know about how it ended."""
    unpaged: str | None = None
    """Why the first page may not be the only one, though it says nothing of another."""
    paged = False
    """Whether a second page was asked for."""

    def __init__(self) -> None:
        self._request = PageRequest("")
        self._step = 0

    @property
    def pages(self) -> int:
        """How many pages it has followed, in an interrupted fetch too."""
        return self._step

    def first(self, request: PageRequest) -> PageRequest:
        """Give the first request."""
        self._request = self._begin(request)
        return self._request

    def next(self, page: Page, records: int) -> PageRequest | None:
        """Give the request after this page with so many records; None at the end."""
        following = self._follow(page, records)
        self._step += 1
        if following is None:
            return None
        self._request, self.paged = following, True
        return following

    def state(self) -> dict[str, Any]:
        """Give what ``restore`` needs in another process to go on with the request that was given last."""
        return {"request": asdict(self._request), "step": self._step}

    def restore(self, state: dict[str, Any]) -> PageRequest:
        """Go on from a state; give the request to send."""
        self._request = PageRequest(**state["request"])
        self._step = state["step"]
        return self._request

    def _begin(self, request: PageRequest) -> PageRequest:
        return request

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        raise NotImplementedError

    def _end(self, card: cards.MayBeAbsent, records: int, what: str, there: str | None, field: str) -> None:
        """End; where it is the first page, with records, that lacks what leads to the next one, don't be sure."""
        if self._step == 0 and records and there is not None and card.absent == "warn":
            self.unpaged = (
                f"no {what} on page 1, so that only this page was read; {there}. Correct `{field}`, or say "
                "`absent: end` in `paginator` where the source leaves it out on its last page"
            )

    def _link(self, page: Page, link: str) -> PageRequest:
        # A link carries its parameters itself; a body, where there is one, is sent again.
        return PageRequest(join_url(page.url, link), body=self._request.body)


class SinglePage(Stepping):
    """One request gives everything."""

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        return None


class JsonLink(Stepping):
    """The answer carries the next page's URL."""

    def __init__(self, card: cards.JsonLink) -> None:
        super().__init__()
        self._card = card
        self._path = card.next_url_path
        self._expression = jmespath.compile(card.next_url_path)

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        link = self._expression.search(page.document)
        if link is None:
            self._end(
                self._card, records, f"URL at `{self._path}`", absent(self._expression, page.document), "next_url_path"
            )
        if link is None or link == "" or link is False:
            return None
        if not isinstance(link, str):
            raise SourceError(f"{page.url}: the next URL at `{self._path}` is no text: {brief(link)}")
        return self._link(page, link)


class HeaderLink(Stepping):
    """The next page is in the ``Link`` header."""

    def __init__(self, card: cards.HeaderLink) -> None:
        super().__init__()
        self._card = card
        self._rel = card.rel

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        links = parse_header_links(page.headers.get("Link", ""))
        for link in links:
            if self._rel in link.get("rel", "").split():
                return self._link(page, link["url"])
        rels = {rel for link in links for rel in link.get("rel", "").split()}
        there = f"the header `Link` has {listed(rels)}" if rels else "the answer has no header `Link`"
        self._end(self._card, records, f"link `{self._rel}`", there, "rel")
        return None


class PageNumber(Stepping):
    """Pages are numbered; without a total an empty one is the end."""

    def __init__(self, card: cards.PageNumber) -> None:
        super().__init__()
        self._card = card
        self._total = jmespath.compile(card.total_path) if card.total_path else None

    def _begin(self, request: PageRequest) -> PageRequest:
        if self._card.size_param and self._card.size:
            request = request.with_params(**{self._card.size_param: str(self._card.size)})
        return request.with_params(**{self._card.page_param: str(self._card.base_page)})

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        if records == 0:
            return None
        if self._total is not None and self._step + 1 >= _whole(self._total.search(page.document), "total_path", page):
            return None
        number = self._card.base_page + self._step + 1
        return self._request.with_params(**{self._card.page_param: str(number)})


class Offset(Stepping):
    """Records are numbered; without a total a page shorter than the limit is the end."""

    def __init__(self, card: cards.Offset) -> None:
        super().__init__()
        self._card = card
        self._total = jmespath.compile(card.total_path) if card.total_path else None

    def _begin(self, request: PageRequest) -> PageRequest:
        return request.with_params(**{self._card.limit_param: str(self._card.limit), self._card.offset_param: "0"})

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        # The records themselves are counted: an API may give fewer than it was asked for.
        offset = int(self._request.params[self._card.offset_param]) + records
        if self._total is not None:
            total = _whole(self._total.search(page.document), "total_path", page)
            if records == 0 and offset < total:
                self.warning = f"{page.url} promised {total} records and ended after {offset}"
            if records == 0 or offset >= total:
                return None
        elif records < self._card.limit:
            return None
        return self._request.with_params(**{self._card.offset_param: str(offset)})


class JsonCursor(Stepping):
    """The answer carries a token for the next request, as a parameter or inside the body."""

    def __init__(self, card: cards.JsonCursor) -> None:
        super().__init__()
        self._card = card
        self._expression = jmespath.compile(card.cursor_path)

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        token = self._expression.search(page.document)
        if token is None:
            path = self._card.cursor_path
            self._end(self._card, records, f"token at `{path}`", absent(self._expression, page.document), "cursor_path")
        if token is None or token == "" or token is False:
            return None
        if not isinstance(token, str | int):
            raise SourceError(f"{page.url}: the token at `{self._card.cursor_path}` is neither text nor number")
        if self._card.cursor_body_path:
            return replace(self._request, body=_with(self._request.body, self._card.cursor_body_path.split("."), token))
        return self._request.with_params(**{self._card.cursor_param: str(token)})


class HeaderCursor(Stepping):
    """A header of the answer carries a token for the next request."""

    def __init__(self, card: cards.HeaderCursor) -> None:
        super().__init__()
        self._card = card

    def _follow(self, page: Page, records: int) -> PageRequest | None:
        token = page.headers.get(self._card.cursor_header)
        if token is None:
            there = f"the answer has the headers {listed(page.headers)}"
            self._end(self._card, records, f"header `{self._card.cursor_header}`", there, "cursor_header")
        return self._request.with_params(**{self._card.cursor_param: token}) if token else None


def make_paginator(card: cards.Paginator) -> Stepping:
    """Make what a card's ``paginator`` asks for."""
    match card:
        case cards.SinglePage():
            return SinglePage()
        case cards.JsonLink():
            return JsonLink(card)
        case cards.HeaderLink():
            return HeaderLink(card)
        case cards.PageNumber():
            return PageNumber(card)
        case cards.Offset():
            return Offset(card)
        case cards.JsonCursor():
            return JsonCursor(card)
        case cards.HeaderCursor():
            return HeaderCursor(card)


class Guard:
    """Watches that pages don't come a second time. Its memory is the landing log's: seed it with what is landed."""

    digest_size: ClassVar[int] = 12

    def __init__(self) -> None:
        self._requests: set[str] = set()
        self._pages: dict[str, int] = {}

    def request(self, fingerprint: str, url: str) -> None:
        """Refuse a request that was sent before.

        Raises:
            SourceError: It was: a next link or token that leads in a circle.
        """
        if fingerprint in self._requests:
            raise SourceError(
                f"{url} was read already ({len(self._pages)} pages so far), and is given as the next page again: the "
                "source's pages lead in a circle. See `paginator` in the card"
            )
        self._requests.add(fingerprint)

    def page(self, digest: str, url: str) -> None:
        """Refuse records that came before.

        Raises:
            SourceError: They did: a source that ignores the page asked for, or gives its last one for ever.
        """
        if (before := self._pages.get(digest)) is not None:
            raise SourceError(
                f"{url} gives the same records as page {before} of this stream: the source ignores the parameter that "
                "asks for a page, or repeats its last one. See `paginator` in the card (its parameter's name, "
                "`total_path`), or bound it with `max_pages`"
            )
        self._pages[digest] = len(self._pages) + 1

    def seed(self, fingerprint: str, digest: str | None) -> None:
        """Remember a page that an interrupted fetch landed."""
        self._requests.add(fingerprint)
        if digest is not None:
            self._pages.setdefault(digest, len(self._pages) + 1)

    @classmethod
    def digest(cls, records: Any) -> str:
        """Give the hash of a page's records."""
        try:
            data = msgspec.json.encode(records)
        except (TypeError, ValueError, msgspec.MsgspecError):
            data = repr(records).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=cls.digest_size).hexdigest()


def fingerprint_of(method: str, request: PageRequest, scope: str = "") -> str:
    """Give the identity of a request inside a batch: what is asked, not with which credentials."""
    asked = Request(request.url, params=request.params).full_url
    data = msgspec.json.encode([method, asked, request.body, scope])
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _whole(value: Any, what: str, page: Page) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise SourceError(f"{page.url}: `{what}` should lead to a whole number, got {brief(value)}") from None


def _with(body: Any, path: list[str], value: Any) -> Any:
    """Give a copy of a JSON body with a value at a path."""
    inner = body.get(path[0]) if isinstance(body, dict) else None
    following = value if len(path) == 1 else _with(inner, path[1:], value)
    return {**(body if isinstance(body, dict) else {}), path[0]: following}
