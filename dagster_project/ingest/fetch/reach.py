"""Which kinds of page a crawl came to, and which selectors of the card found no link at all.

A listing without a next page is the last one, and a shop may have closed: a rule without a match is told only where a
kind of page that a stream reads was never linked to, by any page of a crawl that went to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dagster_project.ingest.cards.web import PageKind


class Reach:
    """Counts pages and the links that each rule of the card found on them."""

    def __init__(self, pages: dict[str, PageKind]) -> None:
        self._pages = pages
        self._read: Counter[str] = Counter()
        self._links: Counter[tuple[str, int]] = Counter()
        self._known: set[str] = set()

    def know(self, kind: str) -> None:
        """Note a page of a kind that was found, whatever becomes of it."""
        self._known.add(kind)

    def read(self, kind: str, links: Iterable[int]) -> None:
        """Note a page that was read, with how many links each rule of its kind found."""
        self._read[kind] += 1
        for rule, count in enumerate(links):
            self._links[kind, rule] += count
            if count:
                self._known.add(self._pages[kind].follow[rule].to)

    def unreached(self, wanted: Iterable[str]) -> list[str]:
        """Say why there is no page of a wanted kind; nothing for kinds that were found."""
        said: dict[str, None] = {}
        for kind in wanted:
            if kind in self._known:
                continue
            for at, rule in self._missing(kind):
                pages = f"{self._read[at]:,} page{'' if self._read[at] == 1 else 's'} of kind {at!r}"
                said[
                    f"`{rule}` (`pages.{at}.follow`) matched no link on {pages}: no page of kind {kind!r} was found"
                ] = None
        return list(said)

    def _missing(self, kind: str) -> list[tuple[str, str]]:
        """Give the rules without a match that would have led to a kind, on pages that were read."""
        leading, found = {kind}, True
        while found:  # through kinds in between that were never found either
            more = {
                at
                for at, page in self._pages.items()
                if at not in self._known and any(rule.to in leading for rule in page.follow)
            }
            found = not more <= leading
            leading |= more
        return [
            (at, rule.css)
            for at, page in self._pages.items()
            if self._read[at]
            for number, rule in enumerate(page.follow)
            if rule.to in leading and rule.to != at and not self._links[at, number]
        ]
