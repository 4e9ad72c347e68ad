"""Types from files to tables: found, declared, widened in place; nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.settings import Settings
from tests.integration.load_world import World


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def test_types_are_found_and_kept(world: World) -> None:
    report = world.load(
        {"name": "t"},
        'id,zip,price,day,at,ok,note\n1,00501,1.50,2024-02-29,2024-01-01T10:00:00Z,true,""\n'
        "2,10001,2,2024-03-01,2024-01-01T10:00:00+02:00,false,\n",
    )
    assert (report.rows_read, report.inserted, report.quarantined) == (2, 2, 0)
    assert world.types() == {
        "id": "bigint",
        "zip": "text",
        "price": "numeric",
        "day": "date",
        "at": "timestamp with time zone",
        "ok": "boolean",
        "note": "text",
        "_load_id": "bigint",
    }
    rows = world.rows("select id, zip, price::text, day::text, ok, note from raw.src__t order by id")
    assert rows == [(1, "00501", "1.50", "2024-02-29", True, ""), (2, "10001", "2", "2024-03-01", False, None)]


def test_json_numbers_are_numbers_and_strings_stay_strings(world: World) -> None:
    world.load(
        {"name": "t"},
        '{"n": 7, "s": "007", "d": 0.1000000000000000055, "big": 18446744073709551615, "tags": ["a"], "e": "", '
        '"x": null}\n'
        '{"n": 8, "s": "8", "d": 1.5, "big": 1, "tags": [], "e": null}\n',
        name="t.jsonl",
    )
    types = world.types()
    assert (types["n"], types["s"], types["d"], types["big"], types["tags"], types["e"]) == (
        *("bigint", "text", "numeric", "numeric"),
        *("jsonb", "text"),
    )
    rows = world.rows("select s, d::text, big::text, tags::text, e, x from raw.src__t order by n")
    assert rows == [
        ("007", "0.1000000000000000055", "18446744073709551615", '["a"]', "", None),
        ("8", "1.5", "1", "[]", None, None),
    ]


@pytest.mark.parametrize(
    ("first", "second", "sql_type", "texts"),
    [
        ("1", "2.50", "numeric", ["1", "2.50"]),
        ("7", "007", "text", ["7", "007"]),
        ("2.50", "x", "text", ["2.50", "x"]),
        ("true", "2", "text", ["true", "2"]),
        ("2024-01-01", "soon", "text", ["2024-01-01", "soon"]),
        ("9223372036854775807", "9223372036854775808", "numeric", ["9223372036854775807", "9223372036854775808"]),
    ],
)
def test_a_guess_changes_its_mind_in_place(
    world: World, first: str, second: str, sql_type: str, texts: list[str]
) -> None:
    world.load({"name": "t"}, f"id,v\n1,{first}\n")
    report = world.load({"name": "t"}, f"id,v\n2,{second}\n")
    assert world.types()["v"] == sql_type
    assert [row[0] for row in world.rows("select v::text from raw.src__t order by id")] == texts
    assert list(report.widened) == ["v"]
    assert report.quarantined == 0
    recorded = world.one("select data_type from bindery.columns where stream = 't' and source_name = 'v'")
    assert recorded == sql_type


def test_widening_happens_within_a_load_too(world: World) -> None:
    lines = "".join(f"{number},{number}\n" for number in range(40_000)) + "40000,x\n"
    report = world.load({"name": "t", "primary_key": "id", "write": "merge"}, f"id,v\n{lines}")
    assert (report.inserted, world.types()["v"]) == (40_001, "text")
    assert world.rows("select id, v from raw.src__t where v in ('0', '39999', 'x') order by id") == [
        (0, "0"),
        (39_999, "39999"),
        (40_000, "x"),
    ]
    report = world.load({"name": "t", "primary_key": "id", "write": "merge"}, "id,v\n1e3,y\n2,2\n")
    assert (report.inserted, report.unchanged, world.types()["id"]) == (1, 1, "text")


def test_a_text_that_becomes_a_document_keeps_both(world: World) -> None:
    world.load({"name": "t"}, '{"id": 1, "bio": "plain \\"text\\""}\n', name="t1.jsonl")
    world.load({"name": "t"}, '{"id": 2, "bio": {"value": "x"}}\n{"id": 3, "bio": "y"}\n', name="t2.jsonl")
    assert world.types()["bio"] == "jsonb"
    assert [row[0] for row in world.rows("select bio from raw.src__t order by id")] == [
        'plain "text"',
        {"value": "x"},
        "y",
    ]


def test_a_column_without_values_waits_for_its_type(world: World) -> None:
    world.load({"name": "t"}, "id,v,w\n1,,\n")
    assert world.one("select data_type from bindery.columns where source_name = 'v'") == "unknown"
    report = world.load({"name": "t"}, "id,v,w\n2,5,\n")
    assert (world.types()["v"], world.types()["w"], report.quarantined) == ("bigint", "text", 0)
    assert world.rows("select id, v from raw.src__t order by id") == [(1, None), (2, 5)]


def test_a_declared_type_is_a_promise(world: World) -> None:
    stream = {"name": "t", "columns": {"v": {"type": "bigint"}}, "expect": {"max_quarantined_rate": 1}}
    report = world.load(stream, "id,v\n1,5\n2,five\n3,\n4,7.0\n")
    assert (report.inserted, report.quarantined, world.types()["v"]) == (3, 1, "bigint")
    code, name, message, record, ordinal = world.rows(
        "select code, column_name, message, record, ordinal from raw._quarantine"
    )[0]
    assert (code, name, record, ordinal) == ("type_mismatch", "v", {"id": "2", "v": "five"}, 2)
    assert "'five' is no bigint" in message


@pytest.mark.parametrize(("contract", "kept"), [("quarantine", 1), ("freeze", 0)])
def test_a_guess_may_be_frozen(world: World, contract: str, kept: int) -> None:
    from dagster_project.ingest.errors import DataRefusedError

    stream = {"name": "t", "contract": {"types": contract}}
    world.load(stream, "id,v\n1,5\n")
    if contract == "freeze":
        with pytest.raises(DataRefusedError, match=r"'x' is no bigint.*freeze"):
            world.load(stream, "id,v\n2,x\n3,6\n")
    else:
        assert world.load(stream, "id,v\n2,x\n3,6\n").quarantined == 1
    assert world.one("select count(*) from raw.src__t") == 1 + kept


def test_a_card_may_state_another_type_later(world: World) -> None:
    world.load({"name": "t"}, "id,a,b\n1,007,5\n")
    stream = {"name": "t", "columns": {"a": {"type": "bigint"}, "b": {"type": "text"}}}
    report = world.load(stream, "id,a,b\n2,8,x\n")
    assert world.rows("select a, b from raw.src__t order by id") == [(7, "5"), (8, "x")]
    assert report.widened == {"a": "text -> bigint", "b": "bigint -> text"}


def test_a_type_that_the_rows_do_not_allow_is_the_cards_mistake(world: World) -> None:
    from dagster_project.ingest.errors import CardError

    world.load({"name": "t"}, "id,a\n1,x\n")
    with pytest.raises(CardError, match=r"a: text -> bigint.*can't be turned.*\"x\""):
        world.load({"name": "t", "columns": {"a": {"type": "bigint"}}}, "id,a\n2,8\n")
    assert world.one("select count(*) from raw.src__t") == 1


def test_empty_and_null_stay_apart_in_text_and_are_one_elsewhere(world: World) -> None:
    stream = {"name": "t", "null": ["NA"], "columns": {"n": {"type": "bigint", "null": ["-"]}}}
    report = world.load(stream, 'id,s,n\n1,"",""\n2,,\n3,NA,NA\n4,-,-\n')
    assert world.rows("select s, n from raw.src__t order by id") == [
        ("", None),
        (None, None),
        (None, None),
        ("-", None),
    ]
    assert report.emptied == 1


def test_what_postgres_refuses_all_the_same_is_found_and_set_aside(world: World) -> None:
    world.write("t.csv", "id,doc\n" + "".join(f'{n},"{{""n"": 1}}"\n' for n in range(200)))
    table = {"name": "t", "columns": {"doc": {"type": "jsonb"}, "id": {"type": "bigint"}}}
    world.run(world.card(table))
    world.execute("loader", "alter table raw.src__t add constraint odd check (id <> 300)")
    report = world.load(table, "id,doc\n299,1\n300,2\n301,3\n")
    assert (report.inserted, report.quarantined) == (2, 1)
    code, message, record = world.rows("select code, message, record from raw._quarantine")[0]
    assert code == "refused_by_postgres"
    assert "odd" in message
    assert record == {"id": "300", "doc": "2"}


def test_hostile_texts_come_back_as_they_were(world: World) -> None:
    texts = [
        'a"b',
        "back\\slash",
        "\\.",
        "\\N",
        "comma,",
        "tab\t",
        "line\nbreak",
        "cr\rx",
        "'; drop table x; --",
        "%s",
        "é😀",
    ]
    body = "id,v\n" + "".join(f'{n},"{text.replace(chr(34), chr(34) * 2)}"\n' for n, text in enumerate(texts))
    report = world.load({"name": "t"}, body)
    assert report.inserted == len(texts)
    assert [row[0] for row in world.rows("select v from raw.src__t order by id")] == texts


def test_a_single_column_keeps_rows_without_value(world: World) -> None:
    stream = {"name": "t", "columns": {"v": {"type": "text"}}}
    world.write("t.jsonl", '{"v": null}\n{"v": ""}\n{"v": "\\\\."}\n{"v": "x"}\n')
    assert world.run(world.card(stream)).streams["t"].inserted == 4
    assert sorted(world.rows("select coalesce(v, 'NULL') from raw.src__t")) == [("",), ("NULL",), ("\\.",), ("x",)]


def test_rows_without_any_value_are_rows_and_records_without_fields_are_not(world: World) -> None:
    report = world.load({"name": "t"}, "a,b\n,\n,\n")
    assert (report.inserted, report.quarantined) == (2, 0)
    assert world.load({"name": "t"}, "a,b\n1,\n,\n").inserted == 2
    assert world.rows("select a, count(*) from raw.src__t group by a order by a") == [(1, 1), (None, 3)]
    report = world.load({"name": "u", "expect": {"max_quarantined_rate": 1}}, "{}\n", name="u.jsonl")
    assert (report.inserted, report.codes) == (0, {"empty_row": 1})


def test_descriptions_become_comments(world: World) -> None:
    stream = {"name": "t", "description": "one row per 'thing'", "columns": {"id": {"description": "it's it"}}}
    world.load(stream, "id\n1\n")
    assert world.one("select obj_description('raw.src__t'::regclass)") == "one row per 'thing'"
    assert world.one("select col_description('raw.src__t'::regclass, 1)") == "it's it"


def test_nan_in_the_first_rows_costs_the_other_numbers_no_digit(world: World) -> None:
    numbers = ["9007199254740993", "0.12345678901234567890123", "1e400", "-1e-400", "NaN", "Infinity"]
    rows = ",".join(f'{{"id":{at},"v":{number},"w":NaN}}' for at, number in enumerate(numbers))
    world.load({"name": "t"}, f"[{rows}]", "t.json")
    assert world.types()["v"] == "numeric"
    kept = [row[0] for row in world.rows("select v::text from raw.src__t order by id")]
    assert kept[:2] == numbers[:2]
    assert [len(text) for text in kept[2:4]] == [401, 403]
    assert kept[4:] == ["NaN", "Infinity"]
    report = world.load({"name": "t"}, '[{"id":9,"v":1,"w":9007199254740993}]', "t2.json")
    assert report.widened == {}
    assert world.rows("select w::text from raw.src__t where id = 9") == [("9007199254740993",)]


def test_a_number_of_thousands_of_digits_beside_nan_is_kept_as_text(world: World) -> None:
    digits = "9" * 5000
    world.load({"name": "t"}, f'[{{"id":1,"v":NaN}},{{"id":2,"v":{digits}}},{{"id":3,"v":0.10}}]', "t.json")
    assert world.rows("select v from raw.src__t order by id") == [("NaN",), (digits,), ("0.10",)]


def test_nan_in_a_column_of_documents_and_in_quarantine_is_its_text(world: World) -> None:
    stream = {"name": "t", "columns": {"id": {"type": "bigint"}}, "expect": {"max_quarantined_rate": 1}}
    world.load(stream, '{"id":1,"v":{"a":1}}\n{"id":2,"v":NaN}\n{"id":3,"v":2.5}\n', "t1.jsonl")
    world.load(
        stream, '{"id":4,"v":NaN}\n{"id":5,"v":2.5}\n{"id":"x","v":-Infinity}\n{"id":"y","v":1.10}\n', "t2.jsonl"
    )
    assert [row[0] for row in world.rows("select v::text from raw.src__t order by id")] == [
        '{"a": 1}', '"NaN"', "2.5", '"NaN"', "2.5",
    ]  # fmt: skip
    assert world.rows("select record->>'v' from raw._quarantine order by quarantine_id") == [("-Infinity",), ("1.10",)]
