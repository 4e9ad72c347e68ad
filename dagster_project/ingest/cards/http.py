"""What a card says about talking HTTP, for APIs and web pages alike."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dagster_project.ingest.cards.base import CardModel, Duration, Positive

_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


class RateLimit(CardModel):
    """At most so many requests in a time, over all streams of the host, evenly spread."""

    requests: Positive
    per: Literal["second", "minute", "hour"] = "second"

    def interval(self, requests: float) -> float:
        """Give the seconds between two requests, once ``requests`` is known as a number."""
        return _SECONDS[self.per] / requests


class HttpRetry(CardModel):
    """Which failures of one request are tried again, and how often."""

    attempts: int = Field(default=5, ge=1, le=50)
    """Tries of one request."""
    budget: int = Field(default=100, ge=0)
    """Retries of the whole fetch; past it the source counts as down."""
    max_wait: Duration = 60.0
    """Longest pause between tries; a longer ``Retry-After`` ends the fetch, to be resumed later."""


class HttpOptions(CardModel):
    """How to talk to the host."""

    rate_limit: RateLimit | None = None
    timeout: Duration = 30.0
    """Longest silence: of connecting, and between two pieces of an answer."""
    deadline: Duration = 600.0
    """Longest time for one answer, from sending the request to the last byte."""
    http_retry: HttpRetry = HttpRetry()
    max_body: int = Field(default=256 * 1024 * 1024, gt=0)
    """Largest answer after decompression, in bytes."""
    allow_private: bool = False
    """Whether addresses inside private networks may be asked. They may anyway where the base URL is inside itself: a
    private address, a name without a dot, or one that ends in .internal, .local, .lan or .home.arpa."""
    allowed_hosts: list[str] = Field(default_factory=list)
    """Hosts (``host`` or ``host:port``) besides the base URL's own; redirects and next links elsewhere are refused.
    Credentials only ever go to the base URL's own."""
    verify_tls: bool = True
