"""Replays: landed bytes again, without the files they came from."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest import pipeline
from dagster_project.ingest.errors import CardError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.load.report import StreamLoad
from dagster_project.settings import Settings
from tests.integration.load_world import World

MERGE: dict[str, Any] = {"name": "t", "primary_key": "id", "write": "merge"}
APPEND: dict[str, Any] = {"name": "t"}


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def replay(world: World, stream: dict[str, Any], **options: Any) -> StreamLoad:
    """Replay without the files."""
    shutil.rmtree(world.folder)
    world.folder.mkdir()
    return pipeline.replay_source(world.card(stream), world.runtime, **options).load.streams["t"]


def test_rows_leave_the_quarantine_when_the_card_is_mended(world: World) -> None:
    stream = {**MERGE, "columns": {"v": {"type": "bigint"}}}
    world.load(stream, "id,v\n1,1\n2,n/a\n3,x\n4,4\n")
    assert world.one("select count(*) from raw._quarantine") == 2
    mended = {**MERGE, "columns": {"v": {"type": "bigint", "null": ["n/a"]}}}
    report = replay(world, mended)
    assert (report.inserted, report.unchanged, report.quarantined, report.resolved) == (1, 2, 1, 1)
    assert world.rows("select load_id, ordinal, resolved_by from raw._quarantine order by ordinal") == [
        (1, 2, 2),
        (2, 3, None),
    ]
    assert world.rows("select kind, status from bindery.loads order by load_id") == [
        ("load", "committed"),
        ("replay", "committed"),
    ]
    report = replay(world, {**MERGE, "columns": {"v": {"type": "text"}}})
    assert (report.quarantined, report.resolved) == (0, 1)
    assert world.one("select count(*) from raw._quarantine where resolved_by is null") == 0
    assert world.rows("select id, v from raw.src__t order by id") == [(1, "1"), (2, "n/a"), (3, "x"), (4, "4")]


def test_a_whole_replay_of_an_append_stream_is_the_same_table(world: World) -> None:
    for number in range(3):
        world.load(APPEND, f"id,v\n{number},a\n{number},b\n")
    want = world.rows("select id, v from raw.src__t order by id, v")
    report = replay(world, APPEND)
    assert (report.deleted, report.inserted, report.batches) == (6, 6, 3)
    assert world.rows("select id, v from raw.src__t order by id, v") == want
    assert world.rows("select distinct _load_id from raw.src__t") == [(4,)]


def test_a_part_of_an_append_stream_takes_the_place_of_its_own_rows(world: World) -> None:
    for number in range(3):
        world.load(APPEND, f"id\n{number}\n")
    want = world.rows("select id from raw.src__t order by id")
    report = replay(world, APPEND, load_id=2)
    assert (report.deleted, report.inserted) == (1, 1)
    assert world.rows("select id from raw.src__t order by id") == want
    assert world.rows("select id, _load_id from raw.src__t order by id") == [(0, 1), (1, 4), (2, 3)]
    again = replay(world, APPEND, load_id=4)
    assert (again.deleted, again.inserted) == (1, 1), "the replay's own rows give way to the next one"
    assert world.rows("select id from raw.src__t order by id") == want


def test_rows_that_one_load_brought_are_replayed_together(world: World) -> None:
    card = world.card(APPEND)
    for number in range(2):
        world.write(f"t{number}.csv", f"id\n{number}\n")
        fetch_source(card, world.runtime)
    world.run(card)
    (first,) = world.rows("select min(batch_id) from bindery.load_batches")
    report = replay(world, APPEND, batches=[first[0]])
    assert (report.deleted, report.inserted, report.batches) == (2, 2, 2)


def test_since_a_moment(world: World) -> None:
    world.load(MERGE, "id,v\n1,a\n")
    moment = datetime.now(UTC)
    world.load(MERGE, "id,v\n2,b\n")
    report = replay(world, MERGE, since=moment)
    assert (report.batches, report.unchanged) == (1, 1)


def test_later_batches_keep_the_last_word_when_an_early_one_is_merged_again(world: World) -> None:
    world.load(MERGE, "id,v\n1,old\n2,x\n")
    world.load(MERGE, "id,v\n1,new\n")
    report = replay(world, MERGE, load_id=1)
    assert (report.updated, report.unchanged) == (0, 2)
    assert world.rows("select id, v from raw.src__t order by id") == [(1, "new"), (2, "x")]


def test_the_past_does_not_replace_the_present(world: World) -> None:
    stream = {"name": "t", "write": "replace"}
    world.load(stream, "id\n1\n")
    world.load(stream, "id\n2\n")
    with pytest.raises(CardError, match="would put the past"):
        replay(world, stream, load_id=1)
    report = replay(world, stream)
    assert (report.deleted, report.inserted) == (1, 1)
    assert world.rows("select id from raw.src__t") == [(2,)]


def test_a_replay_leaves_the_cursor_alone(world: World) -> None:
    world.load(MERGE, "id,v\n1,a\n")
    world.execute("loader", "update bindery.state set cursor = '{\"value\": 5}', load_id = 77")
    replay(world, MERGE)
    assert world.rows("select cursor, load_id from bindery.state") == [({"value": 5}, 77)]


def test_a_replay_of_nothing_is_nothing(world: World) -> None:
    assert pipeline.replay_source(world.card(MERGE), world.runtime).load.load_id is None
