"""Retention: what is old, loaded and needed by nobody goes; nothing else does, whoever is killed or lands meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import RestApiSourceCard, SourceCard, WebSourceCard
from dagster_project.ingest.errors import LandingError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.landing import retention
from dagster_project.ingest.landing.archive import Archive
from dagster_project.ingest.landing.retention import Purge
from dagster_project.ingest.load.run import load_source
from dagster_project.settings import Settings
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply
from tests.integration.load_world import World

KEEP: dict[str, Any] = {"archive": {"keep": "90d"}}
APPEND: dict[str, Any] = {"name": "t"}
MERGE: dict[str, Any] = {"name": "t", "primary_key": "id", "write": "merge"}


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


@pytest.fixture
def connection(world: World) -> Iterator[psycopg.Connection[Any]]:
    with world.connection() as connection:
        connection.autocommit = True
        yield connection


def objects(world: World) -> list[Path]:
    """List the archive's files."""
    return sorted(path for path in (Path(world.runtime.landing) / "objects").rglob("*") if path.is_file())


def age(world: World, days: float = 100, batches: str = "true") -> None:
    """Make what is landed so far look old."""
    world.execute(
        "loader",
        f"update bindery.batches set sealed_at = sealed_at - interval '{days} days', "
        f"opened_at = opened_at - interval '{days} days' where {batches}",
    )
    for path in objects(world):
        os.utime(path, (time.time() - days * 86400,) * 2)


def land(world: World, card: SourceCard, name: str, text: str) -> None:
    world.write(name, text)
    fetch_source(card, world.runtime)


def purge(world: World, connection: psycopg.Connection[Any], card: SourceCard) -> Purge:
    return retention.purge(connection, card, Archive(world.runtime.landing))


def purged(world: World) -> list[int]:
    return [row[0] for row in world.rows("select batch_id from bindery.batches where purged_at is not null order by 1")]


def test_a_load_removes_what_is_older_than_the_card_keeps(world: World) -> None:
    card = world.card(APPEND, **KEEP)
    world.load({**APPEND}, "id\n1\n", "t1.csv")
    age(world)
    assert world.run(world.card(APPEND)).load_id is None
    assert len(objects(world)) == 1  # without `archive.keep` everything stays
    world.write("t2.csv", "id\n2\n")
    world.run(card)
    assert purged(world) == [1]
    assert len(objects(world)) == 1
    assert any("removed 1 archived objects" in (p.message or "") for p in world.seen)
    assert world.one("select count(*) from bindery.purge_queue") == 0
    assert world.one("select count(*) from bindery.landed where uri is not null") == 2
    assert world.rows("select id from raw.src__t order by 1") == [(1,), (2,)]


def test_what_is_young_or_not_loaded_stays(world: World, connection: psycopg.Connection[Any]) -> None:
    card = world.card(APPEND, **KEEP)
    land(world, card, "t1.csv", "id\n1\n")
    age(world)
    assert retention.due_batches(connection, card) == []
    load_source(world.card(APPEND), world.runtime)
    assert retention.due_batches(connection, card) == [1]
    age(world, days=-50)
    assert retention.due_batches(connection, card) == []
    assert not retention.is_due(connection, card)
    assert not retention.is_due(connection, world.card(APPEND))


def test_bytes_that_another_source_still_keeps_stay_until_it_does_not(
    world: World, connection: psycopg.Connection[Any]
) -> None:
    first, other = world.card(APPEND, **KEEP), world.card(APPEND, source="other", **KEEP)
    world.write("t.csv", "id\n1\n")
    for card in (first, other):
        world.run(card)
    age(world)
    age(world, days=-100, batches="source = 'other'")
    for path in objects(world):
        os.utime(path, (0, 0))
    assert retention.preview_purge(connection, first) == Purge([1], 0, 0)
    assert purge(world, connection, first) == Purge([1], 0, 0)
    assert len(objects(world)) == 1
    assert world.one("select count(*) from bindery.purge_queue") == 0
    age(world, batches="source = 'other'")
    assert retention.preview_purge(connection, other) == Purge([2], 1, 5)
    done = purge(world, connection, other)
    assert (done.batches, done.objects, objects(world)) == ([2], 1, [])
    assert done.bytes > 0


@pytest.mark.parametrize("killed_at", ["after the marks", "while a file goes"])
def test_a_purge_that_was_killed_is_finished_by_the_next(
    world: World, connection: psycopg.Connection[Any], killed_at: str
) -> None:
    card = world.card(APPEND, **KEEP)
    for number in range(3):
        world.write(f"t{number}.csv", f"id\n{number}\n")
        world.run(card)
    age(world)
    retention.mark(connection, card)
    assert (len(purged(world)), len(objects(world))) == (3, 3)
    if killed_at == "while a file goes":
        path = objects(world)[0]
        path.rename(path.with_name(path.name + ".removed"))
    assert retention.is_due(connection, card)
    assert purge(world, connection, card).objects == 3
    assert objects(world) == []
    assert not retention.is_due(connection, card)


def test_bytes_that_are_landed_again_meanwhile_stay(world: World, connection: psycopg.Connection[Any]) -> None:
    card = world.card(APPEND, **KEEP)
    world.load(APPEND, "id\n1\n", "t1.csv")
    age(world)
    retention.mark(connection, card)
    done: list[Purge] = []

    def sweep_between(stage: str) -> None:
        if stage == "land":  # the bytes are put, their row isn't written
            done.append(Purge())
            retention.sweep(connection, Archive(world.runtime.landing), done[0])

    world.runtime.checkpoint = sweep_between
    world.write("again.csv", "id\n1\n")
    fetch_source(world.card({**APPEND, "files": ["*"]}), world.runtime)
    world.runtime.checkpoint = lambda _: None
    assert (done[0].objects, done[0].waiting) == (0, 1)
    assert load_source(world.card(APPEND), world.runtime).streams["t"].inserted == 1
    # Now somebody needs them: they leave the queue, however old they get.
    for path in objects(world):
        os.utime(path, (0, 0))
    assert purge(world, connection, card).objects == 0
    assert world.one("select count(*) from bindery.purge_queue") == 0
    assert len(objects(world)) == 1


def test_bytes_removed_between_their_landing_and_its_row_fail_the_fetch_in_words(
    world: World, connection: psycopg.Connection[Any]
) -> None:
    def remove(stage: str) -> None:
        if stage == "land":
            for path in objects(world):
                path.unlink()

    world.runtime.checkpoint = remove
    world.write("t.csv", "id\n1\n")
    with pytest.raises(LandingError, match="were removed while they were being landed"):
        fetch_source(world.card(APPEND), world.runtime)
    world.runtime.checkpoint = lambda _: None
    assert world.run(world.card(APPEND)).streams["t"].inserted == 1


def test_files_come_back_as_what_they_were_and_arent_landed_twice(
    world: World, connection: psycopg.Connection[Any]
) -> None:
    card = world.card(APPEND, **KEEP)
    for number, text in enumerate(["id\n1\n", "id\n2\n", "id\n1\n"]):
        world.write("t.csv", text)
        os.utime(world.folder / "t.csv", (1000 + number, 1000 + number))
        assert world.run(world.card(APPEND)).streams["t"].inserted == 1
        age(world)
        purge(world, connection, card)
        assert objects(world) == []
        assert world.run(card).load_id is None  # it lies there as it did: no reason to land it again
    assert world.rows("select id from raw.src__t order by _load_id") == [(1,), (2,), (1,)]


def test_a_load_under_way_keeps_its_bytes(world: World, connection: psycopg.Connection[Any]) -> None:
    card = world.card(APPEND, **KEEP)
    world.load(APPEND, "id\n1\n", "t.csv")
    age(world)
    done: list[Purge] = []

    def prune(stage: str) -> None:
        if stage == "parse":
            done.append(purge(world, connection, card))

    world.runtime.checkpoint = prune
    pipeline.replay_source(world.card(APPEND), world.runtime)
    assert (done[0].busy, done[0].batches, len(objects(world))) == (True, [], 1)


def three(world: World, stream: dict[str, Any], connection: psycopg.Connection[Any]) -> None:
    """Load three batches and remove the bytes of the first."""
    for number in range(1, 4):
        world.write(f"t{number}.csv", f"id,v\n{number},{number}\n9,{number}\n")
        world.run(world.card(stream))
        if number == 1:
            age(world)
    assert purge(world, connection, world.card(stream, **KEEP)).batches == [1]


def test_a_replay_of_removed_bytes_says_so(world: World, connection: psycopg.Connection[Any]) -> None:
    three(world, APPEND, connection)
    with pytest.raises(
        LandingError, match=r"bytes of batch 1 were removed on \d{4}-\d\d-\d\d by `archive\.keep: 90d`: rows of src\.t"
    ):
        pipeline.replay_source(world.card(APPEND, **KEEP), world.runtime, load_id=1)
    assert world.one("select count(*) from raw.src__t") == 6


@pytest.mark.parametrize("stream", [APPEND, MERGE], ids=["append", "merge"])
def test_a_whole_replay_leaves_out_what_is_removed(
    world: World, connection: psycopg.Connection[Any], stream: dict[str, Any]
) -> None:
    three(world, stream, connection)
    want = world.rows("select id, v from raw.src__t order by 1, 2")
    world.execute("loader", "delete from raw.src__t where id = 3", "update raw.src__t set v = 77 where id in (1, 2)")
    report = pipeline.replay_source(world.card(stream, **KEEP), world.runtime).load.streams["t"]
    assert "bytes of batch 1 were removed" in report.warnings[0]
    assert world.rows("select id, v from raw.src__t order by 1, 2") == [(1, 77), *want[1:]]


def test_rows_that_cant_be_told_apart_from_removed_ones_stay(world: World, connection: psycopg.Connection[Any]) -> None:
    for number in range(1, 3):
        land(world, world.card(APPEND), f"t{number}.csv", f"id\n{number}\n")
    load_source(world.card(APPEND), world.runtime)  # one load took both
    age(world, batches="batch_id = 1")
    assert purge(world, connection, world.card(APPEND, **KEEP)).batches == [1]
    with pytest.raises(LandingError, match=r"nothing else of src\.t can be replayed without them"):
        pipeline.replay_source(world.card(APPEND, **KEEP), world.runtime)
    assert world.one("select count(*) from raw.src__t") == 2


def test_a_replaced_table_cant_be_replayed_without_its_bytes(world: World, connection: psycopg.Connection[Any]) -> None:
    stream = {"name": "t", "write": "replace"}
    world.load(stream, "id\n1\n")
    age(world)
    purge(world, connection, world.card(stream, **KEEP))
    with pytest.raises(LandingError, match="bytes of batch 1 were removed"):
        pipeline.replay_source(world.card(stream), world.runtime)
    assert world.one("select count(*) from raw.src__t") == 1


def test_an_archive_that_cant_be_written_doesnt_fail_the_load(world: World) -> None:
    world.load(APPEND, "id\n1\n", "t1.csv")
    age(world)
    (path,) = objects(world)
    path.unlink()
    path.mkdir()  # as good as a file that can't be removed, for root too
    (path / "x").touch()
    os.utime(path, (0, 0))
    world.write("t2.csv", "id\n2\n")
    assert world.run(world.card(APPEND, **KEEP)).streams["t"].inserted == 1
    assert any("old bytes weren't removed" in (p.message or "") for p in world.seen)


def test_parents_stay_until_their_children_have_been_asked_for(
    world: World, connection: psycopg.Connection[Any]
) -> None:
    def answer(asked: Asked) -> Reply:
        return json_reply([{"id": 1}]) if asked.path == "/p" else Reply(500) if broken else json_reply([{"n": 1}])

    broken = True
    with HostileServer(answer) as server:
        card = RestApiSourceCard.model_validate(
            {
                "source": "src",
                "base_url": server.url,
                "http_retry": {"attempts": 1},
                **KEEP,
                "streams": [
                    {"name": "p", "path": "/p", "primary_key": "id", "write": "merge"},
                    {
                        "name": "c",
                        "path": "/p/{id}",
                        "parent": {"stream": "p", "field": "id", "placeholder": "id"},
                    },
                ],
            }
        )
        with pytest.raises(Exception, match="500"):
            pipeline.run_source(card, world.runtime)
        age(world)
        assert retention.due_batches(connection, card) == []
        broken = False
        pipeline.run_source(card, world.runtime)
        assert world.rows("select stream from bindery.batches where batch_id = any(%s)", [1, 2]) == [("p",), ("c",)]
        assert purged(world) == [1]
        age(world)
        assert purge(world, connection, card).objects > 0
        assert pipeline.run_source(card, world.runtime).load.streams["c"].inserted == 1


def test_a_page_whose_bytes_are_removed_is_asked_for_without_conditions(
    world: World, connection: psycopg.Connection[Any]
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/robots.txt":
            return Reply(404)
        if asked.headers.get("if-none-match") == '"1"':
            return Reply(304)
        return Reply(200, b"<html><h1>Title</h1></html>", {"Content-Type": "text/html", "ETag": '"1"'})

    with HostileServer(answer) as server:
        card = WebSourceCard.model_validate(
            {
                "source": "src",
                "base_url": server.url,
                "start": ["/"],
                "start_kind": "page",
                "pages": {"page": {}},
                "crawl": {"delay": 0},
                **KEEP,
                "streams": [
                    {
                        "name": "t",
                        "page": "page",
                        "primary_key": "url",
                        "write": "merge",
                        "fields": {"title": {"css": "h1"}, "url": {"from_page": "url"}},
                    }
                ],
            }
        )

        def crawl() -> tuple[bool, int]:
            server.asked.clear()
            report = pipeline.run_source(card, world.runtime)
            (page,) = [asked for asked in server.asked if asked.path == "/"]
            return "if-none-match" in page.headers, report.load.streams["t"].unchanged

        assert crawl() == (False, 0)
        age(world)
        assert crawl() == (True, 1)  # a younger batch has the page now: it stays
        assert len(objects(world)) == 1
        age(world)
        age(world)
        purge(world, connection, card)
        assert objects(world) == []
        assert crawl() == (False, 1)
        assert len(objects(world)) == 1


def test_old_bytes_of_batches_that_were_given_up_go_too(world: World, connection: psycopg.Connection[Any]) -> None:
    card = world.card(APPEND, **KEEP)
    land(world, card, "t.csv", "id\n1\n")
    world.execute("loader", "update bindery.batches set status = 'abandoned'")
    age(world)
    assert purge(world, connection, card).objects == 1


def test_the_commands_show_and_remove(world: World) -> None:
    from click.testing import CliRunner

    from dagster_project.cli import main
    from dagster_project.settings import use_settings

    use_settings(world.settings.model_copy(update={"landing_url": world.runtime.landing}))
    world.write("t.csv", "id\n1\n")
    world.run(world.card(APPEND, source="gutenberg"))  # the shipped card of this name says `keep: 90d`
    age(world)

    def bindery(*words: str) -> str:
        done = CliRunner().invoke(main, ["landing", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert "gutenberg.t" in bindery("show")
    assert bindery("prune", "gutenberg", "--dry-run") == (
        "gutenberg: would remove 1 objects, 5 B as received, of 1 batches\n"
    )
    assert len(objects(world)) == 1
    told = bindery("prune")
    assert "gutenberg: removed 1 objects" in told
    assert "1 more batches can't be replayed any more" in told
    assert "uploads: keeps everything (no `archive.keep` in its card)" in told
    assert objects(world) == []
    assert bindery("prune", "gutenberg") == "gutenberg: removed 0 objects, 0 B on disk\n"
