"""How fast a host is asked: one pace per host, shared by all threads, held back when the host asks for it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable


class Limiter:
    """A token bucket in time: requests start at least ``interval`` seconds apart, after a first ``burst``.

    The bucket holds one token by default: two requests a second means one every half second, so that no window of a
    second, however the host measures it, sees three.
    """

    def __init__(
        self,
        interval: float = 0.0,
        *,
        burst: int = 1,
        jitter: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.interval = interval
        """Seconds between two requests; may be changed at any time."""
        self.jitter = jitter
        """Share of the interval by which each pause is lengthened at most, at random."""
        self._tolerance = burst - 1
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = float("-inf")
        self._held = float("-inf")

    def wait(self) -> float:
        """Take the next place in the row and sleep until it comes; give the seconds slept."""
        with self._lock:
            now = self._clock()
            place = max(now, self._next - self._tolerance * self.interval)
            pause = self.interval * (1 + self.jitter * random.random())  # noqa: S311
            self._next = max(self._next, now) + pause
        slept = 0.0
        # Asked again after each sleep: the host may have been held back meanwhile.
        while (delay := max(place, self._held) - self._clock()) > 0:
            self._sleep(delay)
            slept += delay
        return slept

    def hold(self, seconds: float) -> None:
        """Let nobody ask before so many seconds have passed (``Retry-After``)."""
        with self._lock:
            self._held = max(self._held, self._clock() + seconds)


class Limiters:
    """The limiters of all hosts that a fetch talks to."""

    def __init__(self, make: Callable[[], Limiter] = Limiter) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._hosts: dict[str, Limiter] = {}

    def of(self, host: str) -> Limiter:
        """Give the limiter of a host (with port)."""
        with self._lock:
            if host not in self._hosts:
                self._hosts[host] = self._make()
            return self._hosts[host]


class Breaker:
    """Stops asking a host that fails again and again; lets one request try it after a while."""

    def __init__(self, threshold: int, cool: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold = threshold
        self._cool = cool
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def closed_for(self, host: str) -> float:
        """Give the seconds for which the host isn't asked; 0 where it may be."""
        with self._lock:
            wait = self._until.get(host, 0.0) - self._clock()
            if wait <= 0 and host in self._until:
                self._until[host] = self._clock() + self._cool  # this one tries; the others go on waiting
                return 0.0
            return max(0.0, wait)

    def failed(self, host: str) -> None:
        """Count a failure of the host itself (no connection, no answer, 5xx)."""
        with self._lock:
            self._failures[host] = self._failures.get(host, 0) + 1
            if self._failures[host] >= self._threshold:
                self._until[host] = self._clock() + self._cool

    def answered(self, host: str) -> None:
        """Forget the host's failures."""
        with self._lock:
            self._failures.pop(host, None)
            self._until.pop(host, None)
