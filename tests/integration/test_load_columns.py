"""Columns that come and go, contracts, bounds, and the quarantine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest.errors import CardError, DataRefusedError
from dagster_project.settings import Settings
from tests.integration.load_world import World


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def test_names_that_meet_get_columns_of_their_own_for_good(world: World) -> None:
    stream = {"name": "t"}
    world.load(stream, '{"userName": "a", "user_name": "b"}\n', name="t1.jsonl")
    world.load(stream, '{"User Name": "c", "userName": "d"}\n', name="t2.jsonl")
    world.load(stream, '{"日本": 1, "价格": 2, "ctid": 3, "_load_id": 4}\n', name="t3.jsonl")
    assert dict(world.rows("select source_name, column_name from bindery.columns where stream = 't'")) == {
        "userName": "user_name",
        "user_name": "user_name_2",
        "User Name": "user_name_3",
        "日本": "日本",
        "价格": "价格",
        "ctid": "ctid_",
        "_load_id": "_load_id_",
    }
    assert world.rows(
        "select user_name, user_name_2, user_name_3, ctid_, _load_id_ from raw.src__t order by _load_id"
    ) == [
        ("a", "b", None, None, None),
        ("d", None, "c", None, None),
        (None, None, None, 3, 4),
    ]


def test_the_card_names_columns(world: World) -> None:
    stream = {"name": "t", "columns": {"Val 1": {"name": "100% value"}}}
    world.load(stream, "id,Val 1,value\n1,a,b\n")
    assert list(world.types()) == ["100% value", "id", "value", "_load_id"]
    for bad, why in (("ctid", "can't be a column"), ("x" * 64, "longer than 63 bytes"), ("", "empty")):
        with pytest.raises(CardError, match=why):
            world.load({"name": "t", "columns": {"id": {"name": bad}}}, "id\n2\n")
    with pytest.raises(CardError, match="is also the name of 'id'"):
        world.load({"name": "t", "columns": {"id": {"name": "x"}, "value": {"name": "x"}}}, "id\n2\n")
    with pytest.raises(CardError, match=r"'id' is column 'id' in src__t, the card now calls it 'other'"):
        world.load({"name": "t", "columns": {"id": {"name": "other"}}}, "id\n2\n")


def test_renamed_fields_feed_one_column(world: World) -> None:
    world.load({"name": "t"}, "Country/Region,n\nItaly,1\n")
    world.load({"name": "t"}, "Country/Region,n\nSpain,2\n")
    stream = {"name": "t", "renames": {"Country/Region": "Country_Region"}}
    world.load(stream, "Country_Region,n\nFrance,3\n")
    world.load(stream, "Country/Region,n\nMalta,4\n")
    assert world.rows("select country_region from raw.src__t order by n") == [
        *(("Italy",), ("Spain",), ("France",)),
        ("Malta",),
    ]
    assert world.rows("select source_name from bindery.columns order by position") == [("Country_Region",), ("n",)]


def test_new_columns_come_under_views(world: World) -> None:
    world.load({"name": "t"}, "id\n1\n")
    world.execute("transformer", "create view staging.v as select * from raw.src__t")
    report = world.load({"name": "t"}, "id,v\n2,x\n")
    assert report.new_columns == ["v"]
    first = {"name": "u", "primary_key": "id", "columns": {"v": {"type": "text"}}}
    assert world.load(first, "id,v,w\n1,x,y\n").new_columns == [], "all of them are"
    assert world.rows("select id, v from raw.src__t order by id") == [(1, None), (2, "x")]


@pytest.mark.parametrize("contract", ["freeze", "quarantine", "drop"])
def test_new_columns_meet_the_contract(world: World, contract: str) -> None:
    stream = {"name": "t", "contract": {"columns": contract}}
    world.load(stream, "id,a\n1,x\n")
    text = "id,a,b,c\n2,y,z,\n3,y,,\n"
    if contract == "freeze":
        with pytest.raises(DataRefusedError, match=r"field 'b' is new \(.*t1.csv\)"):
            world.load(stream, text)
        assert world.rows("select id from raw.src__t") == [(1,)]
        return
    report = world.load(stream, text)
    assert list(world.types()) == ["id", "a", "_load_id"]
    if contract == "drop":
        assert (report.inserted, report.dropped) == (2, ["b"])
    else:
        assert (report.inserted, report.quarantined, report.codes) == (1, 1, {"contract_column": 1})
        assert world.one("select record from raw._quarantine") == {"id": "2", "a": "y", "b": "z", "c": None}


def test_a_required_value_is_required(world: World) -> None:
    stream = {"name": "t", "columns": {"v": {"required": True}}, "expect": {"max_quarantined_rate": None}}
    report = world.load(stream, 'id,v\n1,\n2,""\n3,x\n')
    assert (report.inserted, report.codes) == (2, {"required": 1})
    assert world.load(stream, "id\n4\n").codes == {"required": 1}


def test_lines_that_are_no_rows_are_kept_as_lines(world: World) -> None:
    report = world.load({"name": "t"}, "id,v\n1,a\n2,b,c\n3,d\n")
    assert (report.rows_read, report.inserted, report.codes) == (3, 2, {"ragged_row": 1})
    assert world.rows("select ordinal, record, line, landing_id is not null from raw._quarantine") == [
        (2, None, "2,b,c", True)
    ]


def test_too_many_refused_rows_refuse_the_load(world: World) -> None:
    stream = {"name": "t", "columns": {"v": {"type": "bigint"}}}
    with pytest.raises(DataRefusedError) as caught:
        world.load(stream, "id,v\n1,a\n2,b\n3,1\n")
    said = str(caught.value)
    assert "2 of 3 rows don't fit" in said
    assert "max_quarantined_rate is 0.5" in said
    assert "2 type_mismatch, such as: 'a' is no bigint" in said
    assert "row 1" in said
    assert world.one("select count(*) from raw._quarantine") == 0
    assert world.one("select to_regclass('raw.src__t')") is None
    assert world.rows("select status, kind from bindery.loads") == [("failed", "load")]
    assert world.one("select error from bindery.loads") == said
    bounded = {**stream, "expect": {"max_quarantined": 1, "max_quarantined_rate": None}}
    with pytest.raises(DataRefusedError, match="max_quarantined is 1"):
        world.run(world.card(bounded))
    report = world.run(world.card({**stream, "expect": {"max_quarantined": 2, "max_quarantined_rate": 0.7}})).streams[
        "t"
    ]
    assert (report.inserted, report.quarantined) == (1, 2)


@pytest.mark.parametrize(
    ("expect", "why"),
    [
        ({"min_rows": 5}, "would have 4 rows, and `expect.min_rows is 5`"),
        ({"max_rows": 3}, "would have 4 rows, and `expect.max_rows is 3`"),
        ({"max_null_rate": {"v": 0.4}}, "v is NULL in 1 of 2 rows of this load, and `expect.max_null_rate` allows 0.4"),
        ({"max_null_rate": {"w": 0.4}}, "w is NULL in 2 of 2 rows"),
    ],
)
def test_bounds_hold_before_anything_is_kept(world: World, expect: dict[str, Any], why: str) -> None:
    world.load({"name": "t"}, "id,v,w\n1,,1\n2,,1\n")
    stream = {"name": "t", "expect": expect}
    with pytest.raises(DataRefusedError, match=why):
        world.load(stream, "id,v\n3,x\n4,\n")
    assert world.one("select count(*) from raw.src__t") == 2
    loose = {"min_rows": 4, "max_rows": 4, "max_null_rate": {"v": 0.5, "w": 1}}
    report = world.run(world.card({"name": "t", "expect": loose})).streams["t"]
    assert (report.inserted, report.table_rows) == (2, 4)


def test_a_bound_on_a_column_that_no_row_has_is_the_cards_mistake(world: World) -> None:
    with pytest.raises(CardError, match="max_null_rate names 'nope'"):
        world.load({"name": "t", "expect": {"max_null_rate": {"nope": 0.1}}}, "id\n1\n")


def test_numbers_and_documents_are_kept_in_the_quarantine_as_they_were(world: World) -> None:
    stream = {"name": "t", "columns": {"v": {"type": "bigint"}}, "expect": {"max_quarantined_rate": 1}}
    world.load(stream, '{"v": "x", "n": 1.10, "d": {"a": [1]}, "s": "q\\"", "e": null, "b": true}\n', name="t.jsonl")
    assert world.one("select record::text from raw._quarantine") == (
        '{"b": true, "d": {"a": [1]}, "e": null, "n": 1.10, "s": "q\\"", "v": "x"}'
    )


def test_many_refused_rows_are_written_in_pieces(world: World) -> None:
    stream = {"name": "t", "columns": {"v": {"type": "bigint"}}, "expect": {"max_quarantined_rate": 1}}
    lines = "".join(f"{n},{'x' if n % 2 else n}\n" for n in range(40_000))
    report = world.load(stream, f"id,v\n{lines}")
    assert (report.inserted, report.quarantined) == (20_000, 20_000)
    assert world.one("select count(distinct ordinal) from raw._quarantine") == 20_000
    assert world.rows("select min(ordinal), max(ordinal) from raw._quarantine") == [(2, 40_000)]


def test_a_foreign_table_of_the_same_name_is_left_alone(world: World) -> None:
    from dagster_project.ingest.errors import DatabaseError

    world.execute("loader", "create table raw.src__t (id bigint)", "create view raw.src__u as select 1 as id")
    with pytest.raises(DatabaseError, match="was not made by the loader"):
        world.load({"name": "t"}, "id\n1\n")
    with pytest.raises(DatabaseError, match="is not a table"):
        world.load({"name": "u"}, "id\n1\n")


SALES: dict[str, Any] = {"name": "t", "primary_key": "ref", "write": "merge", "expect": {"max_quarantined_rate": 1}}


def test_rows_that_are_refused_have_no_say_in_the_columns(world: World) -> None:
    world.load(SALES, "ref,amount\n1,5\n")
    report = world.load(SALES, "Id,City,Population\n7,Ulm,x\n8,Bonn,y\n")
    assert (report.inserted, report.quarantined, report.new_columns) == (0, 2, [])
    assert list(world.types()) == ["ref", "amount", "_load_id"]


def test_a_refused_row_beside_good_ones_neither_adds_nor_widens(world: World) -> None:
    world.load(SALES, "ref,amount\n1,5\n")
    world.write("t7.csv", "Id,City,amount\n7,Ulm,many\n")
    report = world.load(SALES, "ref,amount,note\n2,6,good\n,7,good\n")
    assert (report.inserted, report.quarantined, report.new_columns, report.widened) == (1, 2, ["note"], {})
    assert list(world.types()) == ["ref", "amount", "_load_id", "note"]
    assert world.rows("select record->>'City', record->>'amount' from raw._quarantine where record->>'City' <> ''") == [
        ("Ulm", "many")
    ]


def test_the_value_that_makes_a_column_text_is_named(world: World) -> None:
    report = world.load({"name": "t"}, 'id,temp_c,place\n1,20.5,a\n2,21,1\n3,22.1,c\n4,19,d\n5,"12,5",e\n6,18,f\n')
    (warning,) = report.warnings
    assert warning.startswith("temp_c is text, not numeric, because of '12,5' (t0.csv, row 5). To refuse such rows")
    assert world.load({"name": "t"}, "id,temp_c\n7,x\n").warnings == []
    (warning,) = world.load({"name": "t"}, "id,temp_c\n8,x\nix,y\n").warnings
    assert warning.startswith("id is text, not bigint, because of 'ix' (t2.csv, row 2)")
