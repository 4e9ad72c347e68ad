"""What a card of a web site may say: where to start, which links to follow, what a record is on a page."""

from __future__ import annotations

import difflib
from typing import Literal, Self

from pydantic import Field, model_validator

from dagster_project.ingest.cards.base import CardModel, Duration, Number, Seconds, SourceCard, StreamCard, Text
from dagster_project.ingest.cards.http import HttpOptions


class FieldRule(CardModel):
    """Where a field's text is on the page, and how it is cut out."""

    css: str | None = None
    """CSS selector inside the record's element; without it the element itself."""
    xpath: str | None = None
    """XPath instead of CSS, for what CSS can't say."""
    attr: str | None = None
    """An attribute instead of the text; ``href`` and ``src`` become whole URLs."""
    const: str | None = None
    from_page: Literal["url", "title", "status", "fetched_at"] | None = None
    """A fact of the page itself."""
    regex: str | None = None
    """The first group (or the match) of this expression is the value."""
    map: dict[str, str] = Field(default_factory=dict)
    """Text -> value, after ``regex``."""
    all: bool = False
    """Every match, as a JSON list, instead of the first."""
    required: bool = False
    """Report (and quarantine) a record without it: the selector's health."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(x is not None for x in (self.css, self.xpath, self.const, self.from_page)) > 1:
            raise ValueError("a field has one of css, xpath, const, from_page")
        return self


class Follow(CardModel):
    """Links to follow from a page of one kind."""

    css: str
    """Selector of the links (``a`` elements, or elements with ``href``)."""
    to: str
    """The kind of page they lead to."""


class PageKind(CardModel):
    """A kind of page: what to follow from it. Its records belong to the streams that name it."""

    follow: list[Follow] = Field(default_factory=list)


class WebStream(StreamCard):
    """One kind of record found on pages of one kind."""

    page: str
    """The kind of page that carries it."""
    record: str | None = None
    """CSS selector of one record's element; without it the page is one record."""
    fields: dict[str, FieldRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_fields(self) -> Self:
        named = {
            "primary_key": self.primary_key,
            "newest_by": self.newest_by,
            "columns": self.columns,
            "ignore": self.ignore,
        }
        for where, names in named.items():
            for name in names:
                if name not in self.fields and name not in self.renames:
                    near = difflib.get_close_matches(name, self.fields, 1, 0.6)
                    hint = f"did you mean {near[0]!r}?" if near else f"there are {sorted(self.fields)}"
                    raise ValueError(f"stream {self.name!r}: {where} names {name!r}, not among `fields`: {hint}")
        return self


def nothing_on(stream: WebStream, pages: int) -> list[str]:
    """Say of pages that gave no record at all that the selector of records found none."""
    if stream.record is None or not pages:
        return []
    return [f"`{stream.record}` (`record`) matched nothing on {pages:,} page{'' if pages == 1 else 's'}"]


class Crawl(CardModel):
    """Bounds and manners of the crawl."""

    max_pages: Number = 10_000
    max_depth: int = 50
    max_seconds: Duration | None = None
    concurrency: int = Field(default=1, ge=1, le=16)
    """Requests under way at once on the host."""
    delay: Seconds = 1.0
    """Pause between requests to the host, with jitter; robots.txt may ask for more."""
    obey_robots: bool = True
    conditional: bool = True
    """Ask with ETag and Last-Modified of the last time; an unchanged page isn't sent again."""
    max_dead_rate: float = Field(default=0.5, ge=0, le=1)
    """Share of failing pages past which the crawl counts as failed."""


class WebSourceCard(HttpOptions, SourceCard):
    """A source of web pages."""

    base_url: Text
    start: list[str] = Field(min_length=1)
    """Paths below ``base_url``, or whole URLs, of pages of the kind ``start_kind``."""
    start_kind: str = "start"
    sitemap: str | None = None
    """Path (below ``base_url``) or URL of a sitemap whose URLs are pages of the kind ``sitemap_kind``."""
    sitemap_kind: str | None = None
    pages: dict[str, PageKind] = Field(min_length=1)
    """Kinds of pages by name."""
    crawl: Crawl = Crawl()
    streams: list[WebStream] = Field(min_length=1)

    @model_validator(mode="after")
    def _kinds_exist(self) -> Self:
        known = set(self.pages)
        for kind in (self.start_kind, *filter(None, [self.sitemap_kind])):
            if kind not in known:
                raise ValueError(f"page kind {kind!r} is not among `pages`: {sorted(known)}")
        for name, page in self.pages.items():
            for follow in page.follow:
                if follow.to not in known:
                    raise ValueError(f"pages.{name}.follow leads to {follow.to!r}, not among `pages`: {sorted(known)}")
        for stream in self.streams:
            if stream.page not in known:
                raise ValueError(
                    f"stream {stream.name!r} reads page {stream.page!r}, not among `pages`: {sorted(known)}"
                )
        return self
