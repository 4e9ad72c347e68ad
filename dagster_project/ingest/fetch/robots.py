"""robots.txt (RFC 9309): what a site asks crawlers to leave alone, and how fast they may go.

A site that has none allows everything; one that can't say at the moment (5xx, no answer) is left alone for now.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dagster_project.ingest.errors import SourceError, TransientSourceError
from dagster_project.ingest.fetch.http import RequestFailed
from dagster_project.ingest.fetch.network import ForbiddenTarget, host_of

if TYPE_CHECKING:
    from dagster_project.ingest.fetch.http import HttpClient
    from dagster_project.ingest.fetch.report import StreamFetch

AGENT = "bindery"
"""The name that rules for us are under; also the first word of our User-Agent."""
LONGEST_DELAY = 600.0
"""Seconds between two requests past which a crawl would never end: the site doesn't want one."""
MAX_BYTES = 500 * 1024
"""How much of a robots.txt is read, as the RFC asks."""


class HoldOff(TransientSourceError):
    """A site's robots.txt can't be had at the moment, so the site isn't crawled."""


class Robots:
    """The rules of every host that a crawl meets, read once each."""

    def __init__(self, client: HttpClient, figures: StreamFetch) -> None:
        self._client = client
        self._figures = figures
        self._rules: dict[str, Any] = {}
        self._lock = threading.Lock()

    def allows(self, url: str) -> bool:
        """Tell whether a URL may be asked.

        Raises:
            HoldOff: The rules can't be had now.
        """
        rules = self._of(url)
        return rules is None or bool(rules.can_fetch(url, AGENT))

    def delay(self, url: str) -> float:
        """Give the seconds between requests that the host asks for; 0 where it asks for none.

        Raises:
            SourceError: So many that it asks not to be crawled.
        """
        rules = self._of(url)
        if rules is None:
            return 0.0
        delay = float(rules.crawl_delay(AGENT) or 0.0)
        rate = rules.request_rate(AGENT)
        if rate is not None and rate.requests:
            delay = max(delay, rate.seconds / rate.requests)
        if not delay <= LONGEST_DELAY:
            raise SourceError(
                f"{host_of(urlsplit(url))}: its robots.txt asks for {delay:g} s between two requests, which no crawl "
                "comes to an end with. Ask its owner, or set `obey_robots: false` in the card if you may"
            )
        return delay

    def _of(self, url: str) -> Any:
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            if host not in self._rules:
                self._rules[host] = self._read(host)
            return self._rules[host]

    def _read(self, host: str) -> Any:
        address = f"{host}/robots.txt"
        try:
            answer = self._client.get(address, figures=self._figures)
        except RequestFailed as error:
            raise HoldOff(f"{address} can't be had ({error}): the site is left alone until it can") from None
        except ForbiddenTarget:  # redirected out of reach: as if there were none
            return None
        except SourceError as error:
            raise HoldOff(f"{address} can't be read ({error}): the site is left alone") from None
        if answer.status >= 500:
            raise HoldOff(f"{address} answered {answer.status}: the site is left alone until it answers")
        if not answer.ok:
            return None
        from protego import Protego

        text = answer.read()[:MAX_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
        return Protego.parse(text)
