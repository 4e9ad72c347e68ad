"""The landing log in a real Postgres: batches open, resume, seal; what is announced lands; one fetch at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_project import warehouse
from dagster_project.ingest.errors import LandingError, TransientSourceError
from dagster_project.ingest.landing.lock import source_lock
from dagster_project.ingest.landing.log import LandingLog
from dagster_project.ingest.landing.model import Batch, LandedObject
from dagster_project.settings import Settings
from tests.integration import rest_world

database = rest_world.database


@pytest.fixture(autouse=True)
def _empty(settings: Settings) -> None:
    rest_world.empty_log(settings)


@pytest.fixture(params=[True, False], ids=["autocommit", "transactions"])
def log(settings: Settings, request: pytest.FixtureRequest) -> Iterator[LandingLog]:
    with warehouse.connect(settings, "loader") as connection:
        connection.autocommit = request.param
        yield LandingLog(connection)


@pytest.fixture
def other(settings: Settings) -> Iterator[LandingLog]:
    """Another process' view: sees only what is committed."""
    with warehouse.connect(settings, "loader") as connection:
        connection.autocommit = True
        yield LandingLog(connection)


def opened(log: LandingLog, fingerprint: str = "f", full_refresh: bool = False, stream: str = "books") -> Batch:
    return log.open_batch("test", stream, "", fingerprint, full_refresh)


def landed(fingerprint: str, origin: str = "http://x/1", **fields: Any) -> LandedObject:
    values = {"uri": "objects/ab/c", "sha256": "abc", "size": 7, "media_type": "text/html", "meta": {"status": 200}}
    return LandedObject("test", "books", fingerprint, origin, **{**values, **fields})


def test_a_batch_goes_from_open_to_sealed_to_taken(log: LandingLog, other: LandingLog) -> None:
    batch = opened(log)
    assert (batch.status, batch.resumed, batch.cursor_start, batch.position) == ("open", False, None, 0)
    first = log.add(batch, landed("1"), {"page": 2}, 5)
    second = log.add(batch, landed("2"), {"page": 3}, 9)
    assert second > first
    assert batch.position == 2
    assert other.sealed_untaken("test", "books", "") == []
    log.seal(batch, 9, {"complete": True})
    (sealed,) = other.sealed_untaken("test", "books", "")
    assert (sealed.cursor_proposed, sealed.stats, sealed.resume) == (9, {"complete": True}, None)
    objects = list(other.objects(sealed.batch_id))
    assert [(o.fingerprint, o.position, o.landing_id, o.meta) for o in objects] == [
        ("1", 0, first, {"status": 200}),
        ("2", 1, second, {"status": 200}),
    ]
    row = other.connection.execute(
        "insert into bindery.loads (source, kind, status, started_at) values ('test', 'load', 'committed', now()) "
        "returning load_id"
    ).fetchone()
    assert row is not None
    other.connection.execute("insert into bindery.load_batches values (%s, %s)", [row[0], sealed.batch_id])
    assert other.sealed_untaken("test", "books", "") == []
    assert [b.batch_id for b in other.sealed_since("test", "books", "", 0)] == [sealed.batch_id]


def test_an_interrupted_batch_is_resumed_where_it_stopped(log: LandingLog, other: LandingLog) -> None:
    batch = opened(log)
    log.add(batch, landed("1"), {"page": 2}, {"value": 5})
    again = opened(other)
    assert again.resumed
    assert (again.batch_id, again.resume, again.cursor_proposed, again.position) == (
        batch.batch_id,
        {"page": 2},
        {"value": 5},
        1,
    )
    other.advance(again, {"page": 3}, None)
    assert opened(other).resume == {"page": 3}


def test_a_batch_of_another_card_is_abandoned(log: LandingLog) -> None:
    batch = opened(log, "old")
    log.add(batch, landed("1"), None, 3)
    fresh = opened(log, "new")
    assert fresh.batch_id > batch.batch_id
    assert not fresh.resumed
    with pytest.raises(LandingError, match="isn't open any more"):
        log.add(batch, landed("2"), None, None)
    assert [o.fingerprint for o in log.objects(batch.batch_id)] == ["1"], "nothing slipped in"
    with pytest.raises(LandingError):
        log.seal(batch, 1, {})
    with pytest.raises(LandingError):
        log.advance(batch, {}, 1)
    with pytest.raises(LandingError):
        log.fail(batch, "x")
    assert log.open_one("test", "books", "") is not None


def test_a_full_refresh_starts_at_nothing_and_is_resumed_by_any_fetch(log: LandingLog) -> None:
    first = opened(log)
    log.seal(first, {"value": 1}, {})
    assert opened(log).cursor_start == {"value": 1}
    refresh = opened(log, full_refresh=True)
    assert (refresh.cursor_start, refresh.full_refresh, refresh.resumed) == (None, True, False)
    assert opened(log).batch_id == refresh.batch_id
    assert opened(log, full_refresh=True).batch_id == refresh.batch_id
    assert log.open_one("test", "books", "2024-01") is None, "partitions have batches of their own"


def test_the_next_batch_starts_where_the_newest_sealed_ended_or_the_state_says(log: LandingLog) -> None:
    state = "insert into bindery.state (source, stream, cursor, load_id) values ('test', 'books', '{\"value\": 3}', 1)"
    log.connection.execute(state)
    batch = opened(log)
    assert batch.cursor_start == {"value": 3}
    assert batch.cursor_proposed == {"value": 3}
    log.seal(batch, {"value": 8}, {})
    assert opened(log).cursor_start == {"value": 8}


def test_a_failure_is_written_and_the_batch_stays_open(log: LandingLog, other: LandingLog) -> None:
    batch = opened(log)
    log.fail(batch, "the source is down", {"requests": 3})
    again = opened(other)
    assert (again.resumed, again.error, again.stats) == (True, "the source is down", {"requests": 3})
    other.add(again, landed("1"), None, None)
    assert opened(other).error is None


def test_an_abandoned_batch_gives_way(log: LandingLog) -> None:
    batch = opened(log)
    log.abandon(batch, "its tokens ended")
    fresh = opened(log)
    assert fresh.batch_id != batch.batch_id
    assert not fresh.resumed


def test_the_same_request_again_is_the_same_row(log: LandingLog) -> None:
    batch = opened(log)
    first = log.add(batch, landed("1"), None, None)
    log.add(batch, landed("2"), None, None)
    assert log.add(batch, landed("1", sha256="new"), None, None) == first
    assert [(o.fingerprint, o.position, o.sha256) for o in log.objects(batch.batch_id)] == [
        ("1", 0, "new"),
        ("2", 1, "abc"),
    ]


def test_objects_come_in_order_past_one_page(log: LandingLog) -> None:
    batch = opened(log)
    log.connection.execute(
        "insert into bindery.landed (batch_id, source, stream, position, fingerprint, origin) "
        "select %s, 'test', 'books', n, n::text, 'x' from generate_series(0, 2499) n order by random()",
        [batch.batch_id],
    )
    assert [o.position for o in log.objects(batch.batch_id)] == list(range(2500))


def test_last_seen_is_the_newest_of_each_origin(log: LandingLog) -> None:
    for number in (1, 2):
        batch = opened(log)
        log.add(batch, landed("a", "http://x/a", meta={"etag": f"a{number}"}), None, None)
        if number == 1:
            log.add(batch, landed("b", "http://x/b", meta={"etag": "b1"}), None, None)
        log.seal(batch, None, {})
    found = log.last_seen("test", "books")
    assert {origin: o.meta["etag"] for origin, o in found.items()} == {"http://x/a": "a2", "http://x/b": "b1"}
    assert log.last_seen("test", "others") == {}


def test_announced_objects_a_b_a_are_three_and_the_same_is_one(log: LandingLog, other: LandingLog) -> None:
    ids = []
    for fingerprint in ("A", "A", "B", "A"):
        ids.append(log.announce("test", "books", fingerprint, "drop/x.csv", {"size": 3}).landing_id)
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert [o.fingerprint for o in other.announced("test")] == ["A", "B", "A"]
    assert other.announced("test", "others") == []


def test_an_announced_object_lands_in_its_own_row(log: LandingLog, other: LandingLog) -> None:
    announced = log.announce("test", "books", "A", "drop/x.csv")
    batch = opened(log)
    assert (
        log.add(batch, landed("A", "drop/x.csv", landing_id=announced.landing_id), None, None) == announced.landing_id
    )
    assert other.announced("test") == []
    (found,) = other.objects(batch.batch_id)
    assert (found.landing_id, found.status, found.uri) == (announced.landing_id, "landed", "objects/ab/c")
    assert other.announce("test", "books", "A", "drop/x.csv").landing_id == announced.landing_id


def test_a_failed_object_gets_its_next_attempt(log: LandingLog) -> None:
    first = log.announce("test", "books", "A", "drop/x.csv")
    assert first.landing_id is not None
    log.mark_failed(first.landing_id, "unreadable")
    assert log.announced("test") == []
    again = log.announce("test", "books", "A", "drop/x.csv")
    assert (again.landing_id, again.attempt, again.status, again.meta) == (first.landing_id, 2, "announced", {})


def test_announcers_at_once_make_one_row(settings: Settings, other: LandingLog) -> None:
    def work() -> None:
        with warehouse.connect(settings, "loader") as connection:
            LandingLog(connection).announce("test", "books", "A", "drop/x.csv")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(other.announced("test")) == 1


def test_writers_leave_no_transaction_open(log: LandingLog) -> None:
    batch = opened(log)
    log.add(batch, landed("1"), None, None)
    log.advance(batch, {}, None)
    log.seal(batch, None, {})
    log.announce("test", "books", "A", "x")
    assert log.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_one_fetch_at_a_time(settings: Settings) -> None:
    told: list[str] = []
    with (
        warehouse.connect(settings, "loader") as first,
        warehouse.connect(settings, "loader") as second,
        source_lock(first, "test"),
    ):
        with source_lock(second, "another"):
            pass
        with (
            pytest.raises(TransientSourceError, match=r"another fetch of 'test' is under way \(database session \d+"),
            source_lock(second, "test", wait=0.3, on_wait=told.append),
        ):
            pytest.fail("it was held")
        assert len(told) == 1
        assert "waiting for another fetch of 'test'" in told[0]


def test_the_lock_comes_free_when_its_holder_ends_or_dies(settings: Settings) -> None:
    with warehouse.connect(settings, "loader") as second:
        with warehouse.connect(settings, "loader") as first, source_lock(first, "test"):
            threading.Timer(0.3, lambda: _kill(settings, first.info.backend_pid)).start()
            started = time.monotonic()
            with source_lock(second, "test", wait=10):
                assert time.monotonic() - started < 5
        with source_lock(second, "test", wait=0):
            pass


def _kill(settings: Settings, pid: int) -> None:
    with warehouse.connect(settings, "loader") as connection:
        connection.execute("select pg_terminate_backend(%s)", [pid])


def test_the_log_survives_a_path_in_any_language(log: LandingLog, tmp_path: Path) -> None:
    batch = opened(log)
    log.add(batch, landed("ä", "drop/日本 %s {x}.csv", meta={"ü": "\U0001f600"}), None, {"value": "é"})
    (found,) = log.objects(batch.batch_id)
    assert (found.origin, found.meta) == ("drop/日本 %s {x}.csv", {"ü": "\U0001f600"})
