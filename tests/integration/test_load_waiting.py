"""Batches that wait for their load: an append stream without a cursor isn't asked for the same rows twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import RestApiSourceCard, WebSourceCard
from dagster_project.ingest.errors import DataRefusedError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.load.run import load_source
from dagster_project.settings import Settings
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply
from tests.integration.load_world import World


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


class Api:
    """Answers whatever records it holds."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = [{"id": 1}, {"id": 2}]

    def answer(self, _asked: Asked) -> Reply:
        return json_reply(self.records)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def server(api: Api) -> Iterator[HostileServer]:
    with HostileServer(api.answer) as server:
        yield server


def card(server: HostileServer, *streams: dict[str, Any]) -> RestApiSourceCard:
    whole = [{"name": "t", "path": "/t", **stream} for stream in streams or ({},)]
    return RestApiSourceCard.model_validate({"source": "src", "base_url": server.url, "streams": whole})


def test_what_is_landed_and_not_loaded_isnt_fetched_again(world: World, server: HostileServer) -> None:
    source = card(server)
    landed = fetch_source(source, world.runtime)
    assert len(server.asked) == 1
    report = fetch_source(source, world.runtime).streams["t"]
    assert len(server.asked) == 1
    assert (report.left, report.sealed, report.objects, report.batch_id) == (1, True, 0, landed.streams["t"].batch_id)
    assert f"batch {report.batch_id} is landed and not loaded yet" in report.warnings[0]
    assert any(p.stage == "warning" and "not loaded yet" in (p.message or "") for p in world.seen)
    assert pipeline.run_source(source, world.runtime).load.streams["t"].inserted == 2
    assert len(server.asked) == 1
    # Nothing waits any more: the next run is a deliberate second one.
    assert pipeline.run_source(source, world.runtime).load.streams["t"].inserted == 2
    assert world.rows("select id, count(*) from raw.src__t group by 1 order by 1") == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "stream",
    [
        {"write": "merge", "primary_key": "id"},
        {"write": "replace"},
        {"cursor": {"field": "id"}},
    ],
)
def test_streams_that_can_be_read_twice_are(world: World, server: HostileServer, stream: dict[str, Any]) -> None:
    source = card(server, stream)
    fetch_source(source, world.runtime)
    pipeline.run_source(source, world.runtime)
    assert len(server.asked) == 2
    assert world.one("select count(*) from raw.src__t") == 2


def test_an_empty_batch_holds_nothing_back(world: World, server: HostileServer, api: Api) -> None:
    api.records = []
    source = card(server, {"cursor": None})
    fetch_source(source, world.runtime)
    world.execute("loader", "delete from bindery.landed", "update bindery.batches set position = 0")
    fetch_source(source, world.runtime)
    assert len(server.asked) == 2


def test_each_partition_waits_for_itself(world: World, server: HostileServer) -> None:
    source = card(server)
    fetch_source(source, world.runtime, partition="2024-01")
    assert fetch_source(source, world.runtime, partition="2024-02").streams["t"].left == 0
    assert fetch_source(source, world.runtime, partition="2024-01").streams["t"].left == 1
    for partition in ("2024-01", "2024-02"):
        assert load_source(source, world.runtime, partition=partition).streams["t"].inserted == 2


def test_the_other_streams_are_fetched(world: World, server: HostileServer) -> None:
    source = card(server, {}, {"name": "m", "path": "/m", "write": "merge", "primary_key": "id"})
    fetch_source(source, world.runtime, streams=["t"])
    report = fetch_source(source, world.runtime)
    assert (report.streams["t"].left, report.streams["m"].objects) == (1, 1)


def test_a_batch_that_no_load_takes_holds_the_stream_until_a_full_refresh_gives_it_up(
    world: World, server: HostileServer, api: Api
) -> None:
    source = card(server, {"expect": {"min_rows": 3}})
    for _ in range(2):
        with pytest.raises(DataRefusedError, match="min_rows"):
            pipeline.run_source(source, world.runtime)
    assert len(server.asked) == 1
    api.records.append({"id": 3})
    assert pipeline.run_source(source, world.runtime, full_refresh=True).load.streams["t"].inserted == 3
    assert world.rows("select status, error from bindery.batches order by batch_id") == [
        ("abandoned", "a full refresh began before it was loaded"),
        ("sealed", None),
    ]


def test_a_full_refresh_that_was_killed_before_its_load_doesnt_count_twice(world: World, server: HostileServer) -> None:
    source = card(server, {"cursor": {"field": "id"}})
    fetch_source(source, world.runtime, full_refresh=True)
    pipeline.run_source(source, world.runtime, full_refresh=True)
    assert world.rows("select id from raw.src__t order by 1") == [(1,), (2,)]


def test_a_limited_full_refresh_gives_nothing_up(world: World, server: HostileServer) -> None:
    source = card(server)
    fetch_source(source, world.runtime)
    fetch_source(source, world.runtime, full_refresh=True, limit=1)
    assert world.rows("select distinct status from bindery.batches") == [("sealed",)]


def test_a_full_refresh_of_files_that_was_killed_before_its_load_doesnt_count_twice(world: World) -> None:
    world.write("t1.csv", "id\n1\n")
    source = world.card({"name": "t"})
    world.run(source)
    for _ in range(2):
        fetch_source(source, world.runtime, full_refresh=True)
    assert load_source(source, world.runtime).streams["t"].inserted == 1
    # What wasn't a full refresh may hold files that are gone by now: it stays.
    world.write("t2.csv", "id\n2\n")
    fetch_source(source, world.runtime)
    (world.folder / "t2.csv").unlink()
    fetch_source(source, world.runtime, full_refresh=True)
    assert load_source(source, world.runtime).streams["t"].inserted == 2


def test_a_load_under_way_keeps_its_batches(world: World, server: HostileServer) -> None:
    source = card(server)
    fetch_source(source, world.runtime)

    def refresh(stage: str) -> None:
        if stage == "before_commit":
            world.runtime.checkpoint = lambda _: None
            fetch_source(source, world.runtime, full_refresh=True)

    world.runtime.checkpoint = refresh
    load_source(source, world.runtime)
    assert world.rows("select distinct status from bindery.batches") == [("sealed",)]
    assert load_source(source, world.runtime).streams["t"].inserted == 2


def site(asked: Asked) -> Reply:
    headers = {"Content-Type": "text/html"}
    if asked.path == "/robots.txt":
        return Reply(404)
    if asked.path == "/":
        return Reply(200, b"<html><a class=x href=/1>1</a><a class=x href=/2>2</a></html>", headers)
    return Reply(200, f"<html><h1>{asked.path}</h1></html>".encode(), headers)


def crawl(url: str) -> WebSourceCard:
    field = {"title": {"css": "h1"}}
    return WebSourceCard.model_validate(
        {
            "source": "src",
            "base_url": url,
            "start": ["/"],
            "start_kind": "list",
            "pages": {"list": {"follow": [{"css": "a.x", "to": "page"}]}, "page": {}},
            "crawl": {"delay": 0},
            "streams": [
                {"name": "a", "page": "page", "fields": field},
                {"name": "b", "page": "page", "fields": field},
            ],
        }
    )


def test_a_crawl_killed_between_two_seals_goes_on_with_the_open_batches_alone(world: World) -> None:
    class Killed(Exception):
        pass

    def kill(sealed: object) -> None:
        if getattr(sealed, "message", None) == "sealed" and getattr(sealed, "stream", None) == "a":
            raise Killed

    with HostileServer(site) as server:
        source = crawl(server.url)
        world.runtime.progress = kill
        with pytest.raises(Killed):
            fetch_source(source, world.runtime)
        assert world.rows("select stream, status from bindery.batches where stream <> '_pages' order by stream") == [
            ("a", "sealed"),
            ("b", "open"),
        ]
        world.runtime.progress = world.seen.append
        asked = len(server.asked)
        report = pipeline.run_source(source, world.runtime)
        assert len(server.asked) - asked <= 2  # robots.txt and the start page, whose batch was sealed first
        assert {name: s.inserted for name, s in report.load.streams.items()} == {"a": 2, "b": 2}
        asked = len(server.asked)
        fetch_source(source, world.runtime)
        fetch_source(source, world.runtime)
        assert len(server.asked) - asked == 4  # the second one asked for nothing


def test_a_crawl_killed_while_a_page_lands_for_two_streams_lands_it_for_both(world: World) -> None:
    class Killed(Exception):
        pass

    left = [2]  # the start page, then the first page for the first stream

    def kill(stage: str) -> None:
        if stage == "landed":
            left[0] -= 1
            if not left[0]:
                raise Killed

    with HostileServer(site) as server:
        source = crawl(server.url)
        world.runtime.checkpoint = kill
        with pytest.raises(Killed):
            fetch_source(source, world.runtime)
        assert world.rows("select stream, count(*) from bindery.landed group by 1 order by 1") == [
            ("_pages", 1),
            ("a", 1),
        ]
        world.runtime.checkpoint = lambda _: None
        report = pipeline.run_source(source, world.runtime)
        assert {name: s.inserted for name, s in report.load.streams.items()} == {"a": 2, "b": 2}
