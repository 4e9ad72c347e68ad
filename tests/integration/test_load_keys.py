"""Keys that change, keys that are none, tables that are gone: what the card's word means for a table that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest.errors import CardError, DataRefusedError
from dagster_project.settings import Settings
from tests.integration.load_world import World

NOT_NULL = (
    "select attname from pg_attribute where attrelid = 'raw.src__t'::regclass and attnum > 0 and attnotnull "
    "and not attisdropped order by attnum"
)
KEYS = "select conname from pg_constraint where conrelid = 'raw.src__t'::regclass and contype = 'p'"


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def merge(key: str, **rest: Any) -> dict[str, Any]:
    return {"name": "t", "primary_key": key, "write": "merge", **rest}


def test_a_former_key_needs_no_values_any_more(world: World) -> None:
    world.load(merge("k"), "id,k\n1,x\n2,y\n")
    report = world.load(merge("id"), "id,k\n3,\n")
    assert (report.inserted, report.quarantined) == (1, 0)
    assert world.rows(NOT_NULL) == [("id",), ("_load_id",)]


def test_append_after_merge_keeps_every_row(world: World) -> None:
    world.load(merge("k"), "id,k\n1,x\n2,y\n")
    report = world.load({"name": "t"}, "id,k\n3,x\n4,\n5,x\n")
    assert (report.inserted, report.quarantined) == (3, 0)
    assert world.rows(NOT_NULL) == [("_load_id",)]


def test_replace_after_merge_takes_what_comes(world: World) -> None:
    world.load(merge("k"), "id,k\n1,x\n2,y\n")
    report = world.load({"name": "t", "write": "replace"}, "id,k\n3,\n3,\n")
    assert (report.inserted, report.deleted, report.quarantined) == (2, 2, 0)
    with pytest.raises(CardError, match="don't allow the primary_key"):
        world.load(merge("id"), "id,k\n4,\n")


def test_a_key_changes_in_an_empty_table_too(world: World) -> None:
    world.load(merge("k"), "id,k\n1,x\n")
    world.execute("loader", "delete from raw.src__t")
    assert world.load(merge("id"), "id,k\n3,\n").inserted == 1
    assert world.rows(NOT_NULL) == [("id",), ("_load_id",)]


def test_a_key_that_somebody_else_made_stays(world: World) -> None:
    world.load({"name": "t"}, "id,k\n1,x\n")
    world.execute("loader", "alter table raw.src__t add primary key (id)")
    report = world.load({"name": "t", "expect": {"max_quarantined_rate": 1}}, "id,k\n1,y\n2,z\n")
    assert (report.inserted, report.codes) == (1, {"refused_by_postgres": 1})
    assert len(world.rows(KEYS)) == 1


def test_a_key_made_before_keys_were_marked_is_the_loaders(world: World) -> None:
    world.load(merge("k"), "id,k\n1,x\n")
    world.execute("loader", "comment on constraint src__t_pkey on raw.src__t is null")
    world.load(merge("k"), "id,k\n2,y\n")
    world.load({"name": "t"}, "id,k\n3,x\n")
    assert world.rows(KEYS) == []


def test_a_view_that_needs_the_former_key_is_told_of(world: World) -> None:
    world.load(merge("k"), "id,k\n1,x\n")
    world.execute("loader", "create view raw.grouped as select id, k from raw.src__t group by k")
    report = world.load({"name": "t"}, "id,k\n3,y\n")
    assert report.inserted == 1
    assert any("the former primary key (k) stays" in warning for warning in report.warnings)


@pytest.mark.parametrize("filled", [False, True])
def test_a_key_that_is_none_is_doubted(world: World, filled: bool) -> None:
    if filled:
        world.load(merge("ok"), "id,ok\n1,maybe\n")
    rows = "".join(f"{number},{'true' if number % 2 else 'false'}\n" for number in range(57))
    report = world.load(merge("ok"), f"id,ok\n{rows}")
    (warning,) = [each for each in report.warnings if "primary_key" in each]
    assert warning.startswith("55 of 57 rows gave way to one of the same key with other values, as with key false: ")
    assert "is `primary_key: ok` unique?" in warning
    assert warning in report.to_metadata()["warnings"]


def test_repeated_rows_that_are_the_same_or_ordered_are_no_doubt(world: World) -> None:
    assert world.load(merge("id"), "id,v\n1,a\n1,a\n2,b\n2,b\n").warnings == []
    assert world.load(merge("id", newest_by="v"), "id,v\n1,a\n1,c\n2,b\n2,d\n").warnings == []


def test_a_table_that_somebody_dropped_is_missed(world: World) -> None:
    world.load(merge("id"), "id,v\n1,a\n2,b\n")
    world.execute("loader", "drop table raw.src__t")
    report = world.load(merge("id"), "id,v\n3,c\n")
    (warning,) = report.warnings
    assert "raw.src__t isn't there any more" in warning
    assert "bindery replay src --stream t" in warning
    assert world.load(merge("id"), "id,v\n4,c\n").warnings == []


def test_more_columns_than_a_table_has_is_told_in_words(world: World) -> None:
    names = ",".join(f"c{number}" for number in range(2000))
    values = ",".join("1" for _ in range(2000))
    with pytest.raises(DataRefusedError, match="at most 1,600 columns"):
        world.load({"name": "t"}, f"{names}\n{values}\n")


def test_records_without_fields_are_refused_and_the_others_kept(world: World) -> None:
    report = world.load({"name": "t"}, '{"id":1}\n{}\n{"id":2}\n', "t.jsonl")
    assert (report.inserted, report.codes) == (2, {"empty_row": 1})
