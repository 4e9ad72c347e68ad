"""Much that waits is loaded in several loads, each a transaction of its own; the tables are those of one load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import SourceCard
from dagster_project.ingest.errors import DataRefusedError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.load.run import load_source
from dagster_project.settings import Settings
from tests.integration.load_world import World

MERGE: dict[str, Any] = {"name": "m", "primary_key": "id", "write": "merge"}
APPEND: dict[str, Any] = {"name": "a"}


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    world = World(settings, tmp_path)
    world.runtime.load_bytes = 1
    return world


def land(world: World, card: SourceCard, name: str, text: str, **options: Any) -> None:
    """Land one file in a batch of its own."""
    world.write(name, text)
    fetch_source(card, world.runtime, **options)


def test_each_fetch_is_a_load_where_more_would_be_too_much(world: World) -> None:
    card = world.card(MERGE, APPEND)
    for number in range(3):
        world.write(f"m{number}.csv", f"id,v\n1,{number}\n{number + 10},x\n")
        land(world, card, f"a{number}.csv", f"n\n{number}\n")
    report = load_source(card, world.runtime)
    assert len(report.load_ids) == 3
    assert report.load_id == report.load_ids[-1]
    assert world.rows("select load_id, status from bindery.loads order by 1") == [
        (load_id, "committed") for load_id in report.load_ids
    ]
    # What one fetch landed is committed together.
    assert world.rows(
        "select l.load_id, array_agg(b.stream order by b.stream) from bindery.load_batches l join bindery.batches b "
        "using (batch_id) group by 1 order by 1"
    ) == [(load_id, ["a", "m"]) for load_id in report.load_ids]
    merged, appended = report.streams["m"], report.streams["a"]
    assert (merged.rows_read, merged.inserted, merged.updated, merged.batches) == (6, 4, 2, 3)
    assert (appended.rows_read, appended.inserted, len(appended.parts)) == (3, 3, 3)
    assert world.rows("select n, _load_id from raw.src__a order by 1") == list(enumerate(report.load_ids))
    assert world.one("select v from raw.src__m where id = 1") == "2"
    done = [p for p in world.seen if p.stage == "done"]
    assert {p.stream: p.rows for p in done if p.stream} == {"m": 6, "a": 3}
    assert load_source(card, world.runtime).load_ids == []


def test_many_small_batches_are_one_load(world: World) -> None:
    world.runtime.load_bytes = 1000
    card = world.card(APPEND)
    for number in range(30):
        land(world, card, f"a{number:02}.csv", f"n\n{number}\n")
    report = load_source(card, world.runtime)
    assert (len(report.load_ids), report.streams["a"].batches) == (1, 30)
    for number in range(30, 34):
        land(world, card, f"a{number:02}.csv", "n\n" + f"{number:010}\n" * 40)
    assert [part.batches for part in load_source(card, world.runtime).streams["a"].parts] == [2, 2]


def test_a_fetch_of_many_files_lands_batches_that_a_load_can_take_one_by_one(world: World) -> None:
    world.runtime.load_bytes = 100
    card = world.card(APPEND)
    for number in range(10):
        world.write(f"a{number}.csv", "n\n" + f"{number:08}\n" * 5)  # 47 bytes
    fetched = pipeline.run_source(card, world.runtime)
    assert fetched.fetch is not None
    assert fetched.fetch.streams["a"].objects == 10
    assert world.rows("select position, count(*) from bindery.batches group by 1") == [(2, 5)]
    assert len(fetched.load.load_ids) == 5
    assert world.one("select count(*) from raw.src__a") == 50


def test_files_that_replace_the_table_stay_together(world: World) -> None:
    card = world.card({"name": "a", "write": "replace"})
    for number in range(3):
        world.write(f"a{number}.csv", f"n\n{number}\n")
    assert len(world.run(card).load_ids) == 1
    assert world.rows("select n from raw.src__a order by 1") == [(0,), (1,), (2,)]


def test_only_the_newest_batch_of_a_stream_that_is_replaced_is_read(world: World) -> None:
    card = world.card({"name": "r", "write": "replace"}, APPEND)
    for number in range(3):
        world.write(f"r{number}.csv", f"n\n{number}\n")
        land(world, card, f"a{number}.csv", f"n\n{number}\n")
    report = load_source(card, world.runtime)
    assert (report.streams["r"].batches, report.streams["r"].superseded, report.streams["r"].rows_read) == (3, 2, 1)
    assert world.rows("select n from raw.src__r") == [(2,)]
    assert world.one("select count(*) from raw.src__a") == 3


def test_what_a_complete_batch_lacks_is_deleted_and_later_batches_add_to_it(world: World) -> None:
    stream = {**MERGE, "missing": "delete"}
    card = world.card(stream)
    world.write("m0.csv", "id,v\n1,old\n2,old\n3,old\n")
    world.run(card)
    (world.folder / "m0.csv").unlink()
    land(world, card, "m1.csv", "id,v\n8,superseded\n")
    land(world, card, "m1.csv", "id,v\n1,new\n4,new\n", full_refresh=True)
    land(world, card, "m2.csv", "id,v\n5,later\n")
    land(world, card, "m3.csv", "id,v\n2,later\n4,later\n")
    report = load_source(card, world.runtime)
    assert len(report.load_ids) == 3
    assert (report.streams["m"].deleted, report.streams["m"].superseded) == (2, 1)
    assert world.rows("select id, v from raw.src__m order by 1") == [
        (1, "new"),
        (2, "later"),
        (4, "later"),
        (5, "later"),
    ]


def test_a_refused_load_keeps_the_ones_before_it_and_says_so(world: World) -> None:
    card = world.card({"name": "a", "columns": {"n": {"type": "bigint"}}})
    land(world, card, "a1.csv", "n\n1\n")
    land(world, card, "a2.csv", "n\nmany\n")
    land(world, card, "a3.csv", "n\n3\n")
    with pytest.raises(DataRefusedError) as caught:
        load_source(card, world.runtime)
    assert any("load 1" in note for note in caught.value.__notes__)
    assert any("what was loaded before it is kept (load 1)" in (p.message or "") for p in world.seen)
    assert world.rows("select n from raw.src__a") == [(1,)]
    mended = world.card({"name": "a", "columns": {"n": {"type": "bigint", "null": ["many"]}}})
    assert load_source(mended, world.runtime).streams["a"].inserted == 2


def test_too_few_rows_are_counted_when_all_is_there(world: World) -> None:
    card = world.card({"name": "a", "expect": {"min_rows": 3}})
    for number in range(3):
        land(world, card, f"a{number}.csv", f"n\n{number}\n")
    assert load_source(card, world.runtime).streams["a"].table_rows == 3
    short = world.card({"name": "b", "expect": {"min_rows": 3}})
    for number in range(2):
        land(world, short, f"b{number}.csv", f"n\n{number}\n")
    with pytest.raises(DataRefusedError, match="min_rows"):
        load_source(short, world.runtime)


def test_types_that_widen_on_the_way_are_told_from_first_to_last(world: World) -> None:
    card = world.card(APPEND)
    for number, value in enumerate(["1", "1.5", "x"]):
        land(world, card, f"a{number}.csv", f"n\n{value}\n")
    report = load_source(card, world.runtime).streams["a"]
    assert report.widened == {"n": "bigint -> text"}
    assert world.rows("select n from raw.src__a order by 1") == [("1",), ("1.5",), ("x",)]


def test_the_cursor_is_that_of_the_last_batch_taken(world: World) -> None:
    card = world.card(APPEND)
    for number in range(3):
        land(world, card, f"a{number}.csv", f"n\n{number}\n")
        world.execute(
            "loader", f"update bindery.batches set cursor_proposed = '{number}' where cursor_proposed is null"
        )
    seen: list[Any] = []

    def look(stage: str) -> None:
        if stage == "after_commit":
            seen.append(world.one("select cursor from bindery.state"))

    world.runtime.checkpoint = look
    load_source(card, world.runtime)
    assert seen == [0, 1, 2]


def test_replays_and_limits_are_one_load(world: World) -> None:
    card = world.card(APPEND)
    for number in range(3):
        land(world, card, f"a{number}.csv", f"n\n{number}\n{number}\n")
    report = load_source(card, world.runtime, limit=3)
    assert (len(report.load_ids), report.streams["a"].rows_read) == (1, 3)
    assert len(pipeline.replay_source(card, world.runtime).load.load_ids) == 1
    assert world.one("select count(*) from raw.src__a") == 6
