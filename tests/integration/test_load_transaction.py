"""All of a source's streams or none: what is committed together, what a failure leaves, and loads that meet."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_project.ingest.errors import (
    DatabaseError,
    DataRefusedError,
    LandingError,
    TransientDatabaseError,
)
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.load import run as load_run
from dagster_project.ingest.load import session as load_session
from dagster_project.ingest.load.run import load_source
from dagster_project.settings import Settings
from tests.integration.load_world import World

GOOD: dict[str, Any] = {"name": "good", "primary_key": "id", "write": "merge"}
BAD: dict[str, Any] = {"name": "bad", "expect": {"min_rows": 10}}


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def test_everything_of_a_load_is_committed_together(world: World) -> None:
    world.write("good.csv", "id,v\n1,a\n")
    world.write("other.csv", "id\n1\n2\n")
    report = world.run(world.card(GOOD, {"name": "other"}))
    assert report.load_id is not None
    assert world.rows(
        "select l.load_id, l.source, l.kind, l.status, l.run_id, l.code, l.error, l.finished_at >= l.started_at "
        "from bindery.loads l"
    ) == [(report.load_id, "src", "load", "committed", "run-1", "test", None, True)]
    assert world.rows("select stream, rows_read, inserted, bytes from bindery.load_streams order by stream") == [
        ("good", 1, 1, 9),
        ("other", 2, 2, 7),
    ]
    assert world.one("select count(*) from bindery.load_batches") == 2
    assert world.one("select count(*) from bindery.state") == 2
    assert world.rows("select distinct _load_id from raw.src__good") == [(report.load_id,)]
    metadata = report.streams["good"].to_metadata()
    assert metadata["table"] == "raw.src__good"
    assert metadata["rows_per_second"] > 0
    import json

    assert json.loads(json.dumps(report.to_metadata()))["streams"]["good"]["inserted"] == 1


def test_one_refused_stream_keeps_all_of_them_out_and_the_next_load_takes_them(world: World) -> None:
    world.write("good.csv", "id,v\n1,a\n")
    world.write("bad.csv", "id\n1\n")
    with pytest.raises(DataRefusedError, match="min_rows"):
        world.run(world.card(GOOD, BAD))
    assert world.one("select count(*) from pg_class where relname in ('src__good', 'src__bad')") == 0
    for table in ("load_batches", "state", "columns", "load_streams"):
        assert world.one(f"select count(*) from bindery.{table}") == 0, table
    assert world.rows("select status from bindery.loads") == [("failed",)]
    report = world.run(world.card(GOOD, {**BAD, "expect": {}}))
    assert {name: stream.inserted for name, stream in report.streams.items()} == {"good": 1, "bad": 1}


def test_chosen_streams_load_alone(world: World) -> None:
    world.write("good.csv", "id,v\n1,a\n")
    world.write("bad.csv", "id\n1\n")
    report = world.run(world.card(GOOD, BAD), streams=["good"])
    assert list(report.streams) == ["good"]


def test_append_takes_every_batch_once(world: World) -> None:
    card = world.card({"name": "t"})
    for number in range(3):
        world.write(f"t{number}.csv", f"id\n{number}\n")
        fetch_source(card, world.runtime)
    report = load_source(card, world.runtime)
    assert (report.streams["t"].batches, report.streams["t"].inserted) == (3, 3)
    assert load_source(card, world.runtime).load_id is None
    assert world.one("select count(*) from raw.src__t") == 3


def test_a_limit_takes_so_many_rows(world: World) -> None:
    world.write("t1.csv", "id\n1\n2\n3\n")
    world.write("t2.csv", "id\n4\n")
    card = world.card({"name": "t"})
    fetch_source(card, world.runtime)
    report = load_source(card, world.runtime, limit=2).streams["t"]
    assert (report.rows_read, report.inserted) == (2, 2)


def test_damaged_bytes_refuse_the_load(world: World) -> None:
    card = world.card({"name": "t"})
    world.write("t.csv", "id,v\n" + "".join(f"{n},{n * 7919}\n" for n in range(5000)))
    fetch_source(card, world.runtime)
    (stored,) = [path for path in Path(world.runtime.landing).rglob("*.zst") if path.is_file()]
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 0xFF
    stored.chmod(0o644)
    stored.write_bytes(data)
    with pytest.raises(LandingError, match=str(stored.name)) as caught:
        load_source(card, world.runtime)
    assert any("bindery state skip src" in note for note in caught.value.__notes__)
    assert world.one("select to_regclass('raw.src__t')") is None


def test_two_loads_at_once_load_once(world: World) -> None:
    card = world.card({"name": "t"})
    world.write("t.csv", "id\n" + "".join(f"{n}\n" for n in range(30_000)))
    fetch_source(card, world.runtime)
    inside, go_on = threading.Event(), threading.Event()

    def hold(stage: str) -> None:
        if stage == "before_commit":
            inside.set()
            assert go_on.wait(30)

    first = World.__new__(World)
    first.__dict__.update(world.__dict__)
    from dataclasses import replace

    first.runtime = replace(world.runtime, checkpoint=hold)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(load_source, card, first.runtime)
        assert inside.wait(30)
        other = pool.submit(load_source, card, world.runtime)
        deadline = time.monotonic() + 20
        while not any("waiting for another load" in (event.message or "") for event in world.seen):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        go_on.set()
        assert one.result(30).streams["t"].inserted == 30_000
        assert other.result(30).load_id is None
    assert world.one("select count(*) from raw.src__t") == 30_000


def test_a_load_does_not_wait_for_ever_for_another(world: World) -> None:
    with world.connection() as connection:
        session = load_session.Session(connection)
        load_session.wait_for_turn(session, "src", print)
        with world.connection() as second, pytest.raises(TransientDatabaseError, match="another load of 'src'"):
            load_session.wait_for_turn(load_session.Session(second), "src", lambda _: None, wait=0.2)


def test_a_locked_table_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_session, "_SETTINGS", (*load_session._SETTINGS, "set local lock_timeout = '100ms'"))
    monkeypatch.setattr(load_run, "PAUSE", 0.05)
    world.load(GOOD, "id,v\n1,a\n")
    with world.connection() as holder:
        holder.execute("lock table raw.src__good in exclusive mode")
        with pytest.raises(TransientDatabaseError, match="stayed locked by somebody else"):
            world.load(GOOD, "id,v\n2,a\n")
        tries = [event.message for event in world.seen if "trying again" in (event.message or "")]
        assert len(tries) == load_run.TRIES - 1
        timer = threading.Timer(0.3, holder.rollback)
        timer.start()
        report = world.run(world.card(GOOD), fetch=False)
        timer.join()
    assert report.streams["good"].inserted == 1
    assert world.rows("select status, count(*) from bindery.loads group by 1 order by 1") == [
        ("committed", 2),
        ("failed", 1),
    ]


def test_readers_go_on_while_rows_come(world: World) -> None:
    world.load(GOOD, "id,v\n1,a\n")
    counts: list[int] = []

    def look(stage: str) -> None:
        if stage in ("copy", "merge", "before_commit"):
            counts.append(world.one("select count(*) from raw.src__good"))

    world.runtime.checkpoint = look
    world.load(GOOD, "id,v\n2,a\n3,b\n")
    assert set(counts) == {1}
    assert len(counts) == 3


@pytest.mark.parametrize("stage", ["parse", "copy", "merge", "before_commit"])
def test_a_killed_backend_is_told_in_words_and_the_next_load_goes_on(world: World, stage: str) -> None:
    world.load(GOOD, "id,v\n1,a\n")

    def kill(reached: str) -> None:
        if reached == stage:
            world.execute(
                "loader",
                "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() "
                "and datname = current_database() and usename = current_user",
            )

    world.runtime.checkpoint = kill
    with pytest.raises(DatabaseError, match="connection to Postgres broke off") as caught:
        world.load(GOOD, "id,v\n2,a\n")
    assert caught.value.exit_code == 5
    assert caught.value.transient
    world.runtime.checkpoint = lambda _: None
    assert world.run(world.card(GOOD)).streams["good"].inserted == 1
    assert world.one("select count(*) from raw.src__good") == 2


def test_no_database_is_told_in_words(world: World) -> None:
    def nowhere() -> psycopg.Connection[Any]:
        return psycopg.connect("host=127.0.0.1 port=1 connect_timeout=2")

    world.runtime.connect = nowhere
    with pytest.raises(DatabaseError, match="connection"):
        load_source(world.card(GOOD), world.runtime)


def test_a_column_that_no_longer_is_the_loaders_is_told_in_words(world: World, admin: Any) -> None:
    world.load(GOOD, "id,v\n1,a\n")
    with psycopg.connect(world.settings.admin_dsn(world.settings.database_name).get_secret_value()) as connection:
        connection.execute("alter table raw.src__good owner to bindery_owner")
        connection.execute("grant all on raw.src__good to bindery_loader")
    with pytest.raises(DatabaseError, match="the loader may not do this"):
        world.load(GOOD, "id,v,w\n2,b,c\n")


def test_the_others_load_when_a_stream_can_not_be_fetched(world: World) -> None:
    from dagster_project.ingest import pipeline
    from dagster_project.ingest.errors import SourceError
    from dagster_project.ingest.fetch import run as fetch_run
    from dagster_project.ingest.fetch.report import FetchFailed, FetchReport, StreamFetch

    card = world.card(GOOD, {"name": "other"})
    world.write("good.csv", "id,v\n1,a\n")

    real = fetch_run.fetch_source

    def failing(*args: Any, **options: Any) -> FetchReport:
        report = real(*args, **options)
        report.streams["other"] = StreamFetch(error="the host is gone")
        raise FetchFailed(report)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch_run, "fetch_source", failing)
        with pytest.raises(SourceError, match="the host is gone") as caught:
            pipeline.run_source(card, world.runtime)
    assert caught.value.load.streams["good"].inserted == 1  # type: ignore[attr-defined]
    assert world.one("select count(*) from raw.src__good") == 1
