"""The pace of a host: never faster than said, over all threads; held back; left alone while it is down."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from dagster_project.ingest.cards.http import RateLimit
from dagster_project.ingest.fetch.limiter import Breaker, Limiter, Limiters


class Clock:
    """A time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def starts(limiter: Limiter, clock: Clock, count: int) -> list[float]:
    found = []
    for _ in range(count):
        limiter.wait()
        found.append(round(clock.now - 1000, 6))
    return found


def test_requests_are_evenly_spread(clock: Clock) -> None:
    limiter = Limiter(0.5, clock=clock, sleep=clock.sleep)
    assert starts(limiter, clock, 4) == [0, 0.5, 1.0, 1.5]


def test_a_pause_is_not_saved_up(clock: Clock) -> None:
    limiter = Limiter(0.5, clock=clock, sleep=clock.sleep)
    limiter.wait()
    clock.now += 100
    assert starts(limiter, clock, 3) == [100, 100.5, 101]


def test_a_burst_comes_first_and_refills(clock: Clock) -> None:
    limiter = Limiter(1.0, burst=3, clock=clock, sleep=clock.sleep)
    assert starts(limiter, clock, 5) == [0, 0, 0, 1, 2]
    clock.now += 10
    assert starts(limiter, clock, 4) == [12, 12, 12, 13]


def test_a_host_can_be_held_back(clock: Clock) -> None:
    limiter = Limiter(clock=clock, sleep=clock.sleep)
    limiter.hold(7)
    limiter.hold(3)
    assert starts(limiter, clock, 2) == [7, 7]


def test_the_pace_can_change(clock: Clock) -> None:
    limiter = Limiter(1.0, clock=clock, sleep=clock.sleep)
    limiter.wait()
    limiter.interval = 4.0
    assert starts(limiter, clock, 2) == [1, 5]


def test_jitter_only_lengthens(clock: Clock) -> None:
    limiter = Limiter(1.0, jitter=0.5, clock=clock, sleep=clock.sleep)
    found = starts(limiter, clock, 50)
    gaps = [after - before for before, after in pairwise(found)]
    assert min(gaps) >= 1.0
    assert max(gaps) <= 1.5
    assert len(set(gaps)) > 10


def test_threads_share_one_pace() -> None:
    limiters = Limiters(lambda: Limiter(0.02))
    found: list[float] = []

    def work() -> None:
        for _ in range(5):
            limiters.of("example.org:443").wait()
            found.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.sort()
    assert found[-1] - found[0] >= 19 * 0.02 - 0.001


def test_each_host_has_its_own() -> None:
    limiters = Limiters()
    assert limiters.of("a:80") is limiters.of("a:80")
    assert limiters.of("a:80") is not limiters.of("b:80")


@pytest.mark.parametrize(("per", "interval"), [("second", 0.5), ("minute", 30), ("hour", 1800)])
def test_a_cards_rate_is_an_interval(per: str, interval: float) -> None:
    assert RateLimit.model_validate({"requests": 2, "per": per}).interval(2) == interval


def test_a_host_that_is_down_is_left_alone_then_tried_by_one(clock: Clock) -> None:
    breaker = Breaker(3, 30, clock=clock)
    for _ in range(2):
        breaker.failed("a")
    assert breaker.closed_for("a") == 0
    breaker.failed("a")
    assert breaker.closed_for("a") == 30
    assert breaker.closed_for("b") == 0
    clock.now += 31
    assert breaker.closed_for("a") == 0, "one request tries"
    assert breaker.closed_for("a") == 30, "the others wait"
    breaker.answered("a")
    assert breaker.closed_for("a") == 0


def test_an_answer_forgets_failures(clock: Clock) -> None:
    breaker = Breaker(2, 30, clock=clock)
    breaker.failed("a")
    breaker.answered("a")
    breaker.failed("a")
    assert breaker.closed_for("a") == 0
