"""What became of the pages and links of a crawl that brought no record: counted, judged, told."""

from __future__ import annotations

from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.pages import shown

_SHOWN = 5
_WORDS = {
    "gone": "pages are gone (404 or 410)",
    "failed": "pages couldn't be had",
    "refused": "pages were refused",
    "disallowed": "pages are disallowed by robots.txt",
    "too_deep": "links lead deeper than `max_depth`",
    "elsewhere": "links lead to hosts that the card doesn't allow",
    "beside": "links lead to files that aren't pages",
    "cut": "pages are nested deeper than any page is, and only their beginning is read",
    "soft_404": "pages came with status 200 but look like errors (soft 404)",
    "login_wall": "pages came with status 200 but look like a login wall",
    "captcha": "pages came with status 200 but look like a captcha",
}
_DEAD = ("gone", "failed", "refused")
_HARMLESS = {"gone", "elsewhere", "beside"}
"""What doesn't keep a crawl from having read all that the site has."""


class Tally:
    """The URLs behind each word, each once."""

    def __init__(self) -> None:
        self._urls: dict[str, dict[str, None]] = {}

    def add(self, word: str, url: str) -> bool:
        """Count a URL; tell whether it is the first time."""
        urls = self._urls.setdefault(word, {})
        if url in urls:
            return False
        urls[url] = None
        return True

    @property
    def figures(self) -> dict[str, int]:
        """How many there are of each."""
        return {word: len(urls) for word, urls in self._urls.items()}

    @property
    def complete(self) -> bool:
        """Whether nothing failed but pages that are gone."""
        return set(self._urls) <= _HARMLESS

    def judge(self, handled: int, most: float) -> None:
        """Refuse a crawl in which too many pages failed.

        Raises:
            SourceError: The share of dead pages is larger than ``most``.
        """
        dead = sum(len(self._urls.get(word, ())) for word in _DEAD)
        if handled and dead / handled > most:
            raise SourceError(
                f"{dead} of {handled} pages failed, more than `max_dead_rate: {most:g}` allows: {self._some(*_DEAD)}"
            )

    def sentences(self) -> list[str]:
        """Say each count with its first URLs."""
        return [
            f"{len(self._urls[word])} {text}: {self._some(word)}" for word, text in _WORDS.items() if word in self._urls
        ]

    def _some(self, *words: str) -> str:
        urls = [url for word in words for url in self._urls.get(word, ())]
        return ", ".join(map(shown, urls[:_SHOWN])) + (", ..." if len(urls) > _SHOWN else "")
