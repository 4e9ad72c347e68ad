"""The troubles of the shop: pages that answer 429 at first, and slow ones.

A throttled page answers 429 with Retry-After to its first request and to every one before that second is over, then
serves for a while, then starts again. Whoever waits as asked gets every page, so that a crawl's result never depends
on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

RETRY_AFTER = 1
SLOW_SECONDS = 0.35
SERVED_FOR = 300.0
_SLACK = 0.05  # a client that waits exactly as long as asked is never too early by a clock's rounding


class Throttle:
    """What is remembered of the throttled pages."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_hit: dict[str, float] = {}

    def refuses(self, path: str) -> bool:
        """Tell whether a request for a throttled page comes too early."""
        now = self._clock()
        first = self._first_hit.get(path)
        if first is None or now - first > SERVED_FOR:
            self._first_hit[path] = now
            return True
        return now - first < RETRY_AFTER - _SLACK
