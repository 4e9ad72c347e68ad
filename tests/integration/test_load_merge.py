"""Merge, append and replace: what rows do to a table that has rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest.errors import DataRefusedError
from dagster_project.settings import Settings
from tests.integration.load_world import World


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


MERGE: dict[str, Any] = {"name": "t", "primary_key": "id", "write": "merge"}
PLACES = "select id, ctid::text, xmin::text, _load_id from raw.src__t order by id"


def counts(report: Any) -> dict[str, int]:
    return {
        name: value
        for name in ("inserted", "updated", "unchanged", "deleted", "duplicates", "conflicts", "quarantined")
        if (value := getattr(report, name))
    }


def test_an_identical_load_touches_no_row(world: World) -> None:
    text = "id,v,n\n" + "".join(f"{n},v{n},{n * 2}\n" for n in range(1000)) + "1000,,\n"
    assert counts(world.load(MERGE, text)) == {"inserted": 1001}
    before = world.rows(PLACES)
    report = world.load(MERGE, text, name="t-again.csv")
    assert counts(report) == {"unchanged": 1001}
    assert world.rows(PLACES) == before


def test_only_what_is_new_or_different_is_written(world: World) -> None:
    world.load(MERGE, "id,v\n1,a\n2,b\n3,\n4,d\n")
    before = {row[0]: row[1:] for row in world.rows(PLACES)}
    report = world.load(MERGE, "id,v\n2,b\n3,c\n4,\n5,e\n")
    assert counts(report) == {"inserted": 1, "updated": 2, "unchanged": 1}
    assert world.rows("select id, v from raw.src__t order by id") == [(1, "a"), (2, "b"), (3, "c"), (4, None), (5, "e")]
    after = {row[0]: row[1:] for row in world.rows(PLACES)}
    assert [key for key in before if before[key] != after[key]] == [3, 4]
    assert [after[key][2] for key in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("filled", [False, True], ids=["into an empty table", "into a filled one"])
@pytest.mark.parametrize("key", ["id", "name"], ids=["whole numbers", "texts"])
def test_of_one_key_the_last_read_wins_and_all_is_counted(world: World, filled: bool, key: str) -> None:
    stream = {"name": "t", "primary_key": key, "write": "merge"}
    if filled:
        world.load(stream, "id,name,v\n77,n77,old\n1,n1,old\n")
    rows = ["1,n1,a", "2,n2,a", "1,n1,b", "2,n2,a", "3,n3,a", "1,n1,c"]
    report = world.load(stream, "id,name,v\n" + "\n".join(rows) + "\n")
    assert (report.duplicates, report.conflicts) == (3, 1)
    assert report.inserted + report.updated == 3
    assert world.rows("select id, v from raw.src__t where id < 77 order by id") == [(1, "c"), (2, "a"), (3, "a")]


@pytest.mark.parametrize("filled", [False, True], ids=["into an empty table", "into a filled one"])
def test_the_tie_break_goes_before_the_order_of_reading(world: World, filled: bool) -> None:
    stream = {**MERGE, "newest_by": ["at", "n"]}
    if filled:
        world.load(stream, "id,at,n,v\n9,2024-01-01,1,x\n")
    report = world.load(
        stream,
        "id,at,n,v\n1,2024-01-02,1,newest\n1,2024-01-01,9,older\n1,,9,no date\n"
        "2,2024-01-01,1,a\n2,2024-01-01,2,newest\n3,2024-01-01,1,a\n3,2024-01-01,1,last\n",
    )
    assert report.duplicates == 4
    assert world.rows("select id, v from raw.src__t where id < 9 order by id") == [
        (1, "newest"),
        (2, "newest"),
        (3, "last"),
    ]


def test_an_older_row_never_overwrites_a_newer_one(world: World) -> None:
    stream = {**MERGE, "newest_by": "at"}
    world.load(stream, "id,at,v\n1,2024-02-01,x\n2,2024-02-01,x\n3,,x\n4,2024-02-01,x\n")
    report = world.load(stream, "id,at,v\n1,2024-01-31,old\n2,2024-02-01,same day\n3,2024-01-01,dated\n4,,no date\n")
    assert counts(report) == {"updated": 2, "unchanged": 2}
    assert world.rows("select id, v from raw.src__t order by id") == [(1, "x"), (2, "same day"), (3, "dated"), (4, "x")]


def test_read_order_decides_for_rows_of_any_width(world: World) -> None:
    """Rows lie in the table in the order in which they were read, also where small ones would fit into old pages."""
    lines = []
    for number in range(6000):
        lines.append(f"{number % 500},{'x' * (6000 if number % 97 == 0 else 5)}{number}")
    text = "id,v\n" + "\n".join(lines) + "\n"
    for name in ("t1.csv", "t2.csv"):
        report = world.load({**MERGE, "columns": {"id": {"type": "text"}}}, text + f"{name},1\n", name=name)
        assert report.duplicates == 5500
    rows = world.rows("select id, ltrim(v, 'x') from raw.src__t where id not like 't%%'")
    assert {(key, value) for key, value in rows} == {(str(n % 500), str(n)) for n in range(5500, 6000)}


def test_columns_that_a_load_does_not_have_keep_their_values(world: World) -> None:
    world.load(MERGE, "id,v,w\n1,a,b\n")
    world.load(MERGE, "id,w\n1,c\n2,d\n")
    assert world.rows("select id, v, w from raw.src__t order by id") == [(1, "a", "c"), (2, None, "d")]


def test_a_table_that_is_nothing_but_its_key_merges_too(world: World) -> None:
    stream = {"name": "t", "primary_key": ["a", "b"], "write": "merge"}
    assert counts(world.load(stream, "a,b\n1,1\n1,2\n1,1\n")) == {"inserted": 2, "duplicates": 1}
    assert counts(world.load(stream, "a,b\n1,2\n1,3\n1,2\n")) == {"inserted": 1, "unchanged": 1, "duplicates": 1}


def test_rows_without_a_key_go_to_the_quarantine(world: World) -> None:
    stream = {**MERGE, "expect": {"max_quarantined_rate": 1}}
    assert counts(world.load(stream, "id,v\n1,a\n,b\n")) == {"inserted": 1, "quarantined": 1}
    assert counts(world.load(stream, "v\nc\n")) == {"quarantined": 1}
    assert world.rows("select code, column_name, record from raw._quarantine order by quarantine_id") == [
        ("null_key", "id", {"id": None, "v": "b"}),
        ("null_key", "id", {"v": "c"}),
    ]


def test_the_key_may_change_as_long_as_rows_allow_it(world: World) -> None:
    from dagster_project.ingest.errors import CardError

    world.load(MERGE, "id,v\n1,a\n2,a\n")
    with pytest.raises(CardError, match=r"don't allow the primary_key \(v\)"):
        world.load({**MERGE, "primary_key": "v"}, "id,v\n3,b\n")
    assert (
        counts(world.load({**MERGE, "primary_key": ["v", "id"]}, "id,v\n3,c\n1,a\n", name="t9.csv"))["unchanged"] == 1
    )


def test_append_keeps_every_row(world: World) -> None:
    stream = {"name": "t", "primary_key": "id"}
    assert counts(world.load(stream, "id,v\n1,a\n1,a\n")) == {"inserted": 2}
    assert counts(world.load(stream, "id,v\n1,b\n")) == {"inserted": 1}
    assert world.one("select count(*) from raw.src__t") == 3


def test_replace_leaves_the_newest_and_keeps_views_and_grants(world: World) -> None:
    stream = {"name": "t", "write": "replace", "primary_key": "id"}
    world.load(stream, "id,v\n1,a\n2,b\n")
    world.execute("transformer", "create view staging.v as select * from raw.src__t")
    world.execute("loader", "grant select on raw.src__t to bindery_api")
    report = world.load(stream, "id,v\n3,c\n3,d\n")
    assert counts(report) == {"inserted": 1, "deleted": 2, "duplicates": 1, "conflicts": 1}
    assert world.rows("select id, v from raw.src__t") == [(3, "d")]
    with world.connection("transformer") as connection:
        assert connection.execute("select count(*) from staging.v").fetchall() == [(1,)]
    assert world.one("select has_table_privilege('bindery_api', 'raw.src__t', 'select')") is True


def test_replace_with_nothing_new_replaces_nothing(world: World) -> None:
    stream = {"name": "t", "write": "replace"}
    world.load(stream, "id\n1\n")
    assert world.run(world.card(stream)).load_id is None
    assert world.one("select count(*) from raw.src__t") == 1


def test_of_several_waiting_batches_replace_takes_the_newest(world: World) -> None:
    from dagster_project.ingest.fetch.run import fetch_source

    stream = {"name": "t", "write": "replace"}
    for number in (1, 2, 3):
        world.write(f"t{number}.csv", f"id\n{number}\n")
        fetch_source(world.card(stream), world.runtime)
    report = world.run(world.card(stream), fetch=False).streams["t"]
    assert (report.batches, report.superseded) == (3, 2)
    assert world.rows("select id from raw.src__t") == [(3,)]
    assert world.one("select count(*) from bindery.load_batches") == 3


def test_an_empty_table_with_a_key_is_filled_like_a_new_one(world: World) -> None:
    stream = {**MERGE, "columns": {"id": {"type": "bigint"}, "v": {"type": "text"}}}
    assert world.run(world.card(stream)).streams["t"].rows_read == 0
    assert world.types() == {"id": "bigint", "v": "text", "_load_id": "bigint"}
    assert world.run(world.card(stream)).load_id is None, "the table is there: nothing to do"
    assert counts(world.load(stream, "id,v\n1,a\n1,b\n")) == {"inserted": 1, "duplicates": 1, "conflicts": 1}
    keys = world.rows("select conname from pg_constraint where conrelid = 'raw.src__t'::regclass and contype = 'p'")
    assert len(keys) == 1


def test_a_view_that_groups_by_the_key_of_an_empty_table_is_no_obstacle(world: World) -> None:
    stream = {**MERGE, "columns": {"id": {"type": "bigint"}, "v": {"type": "text"}}}
    world.load(stream, "id,v\n1,a\n")
    world.execute("loader", "delete from raw.src__t", "create view raw.g as select id, v from raw.src__t group by id")
    assert counts(world.load(stream, "id,v\n1,a\n1,b\n2,c\n")) == {"inserted": 2, "duplicates": 1, "conflicts": 1}


def test_a_table_that_others_point_to_is_emptied_row_by_row(world: World) -> None:
    stream = {"name": "t", "write": "replace", "primary_key": "id"}
    world.load(stream, "id,v\n1,a\n2,b\n")
    world.execute("loader", "create table raw.other (id bigint references raw.src__t)")
    report = world.load(stream, "id,v\n3,c\n3,d\n")
    assert counts(report) == {"inserted": 1, "deleted": 2, "duplicates": 1, "conflicts": 1}
    assert world.rows("select id, v from raw.src__t") == [(3, "d")]
    world.execute("loader", "insert into raw.other values (3)")
    with pytest.raises(DataRefusedError, match="still referenced"):
        world.load(stream, "id,v\n4,c\n")


def test_rows_gone_from_a_complete_fetch_are_deleted_and_refused_ones_stay(world: World) -> None:
    stream = {**MERGE, "missing": "delete", "columns": {"id": {"type": "bigint"}, "v": {"type": "bigint"}}}
    world.load(stream, "id,v\n1,1\n2,2\n3,3\n4,4\n")
    report = complete(world, stream, "id,v\n1,1\n03,x\n5,5\n")
    assert counts(report) == {"inserted": 1, "unchanged": 1, "deleted": 2, "quarantined": 1}
    assert world.rows("select id from raw.src__t order by id") == [(1,), (3,), (5,)]


@pytest.mark.parametrize(
    ("text", "why"), [("id,v\n1,1\n,2\n", "without a readable key"), ("id,v\n", "gave no row at all")]
)
def test_nothing_is_deleted_when_the_fetch_can_not_be_trusted(world: World, text: str, why: str) -> None:
    stream = {**MERGE, "missing": "delete"}
    world.load(stream, "id,v\n1,1\n2,2\n")
    report = complete(world, stream, text)
    assert report.deleted == 0
    assert why in report.warnings[0]


def complete(world: World, stream: dict[str, Any], text: str) -> Any:
    """Load one file as a batch that lists everything the source has."""
    from dagster_project.ingest.fetch.run import fetch_source

    world.write("t-complete.csv", text)
    fetch_source(world.card(stream), world.runtime)
    world.execute(
        "loader",
        "update bindery.batches set stats = stats || '{\"complete\": true}' "
        "where batch_id = (select max(batch_id) from bindery.batches)",
    )
    return world.run(world.card(stream), fetch=False).streams["t"]
