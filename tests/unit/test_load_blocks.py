"""Chunks put together, keys watched: what happens to rows before they reach Postgres."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from dagster_project.ingest.chunk import Chunk, Column, Kind, Refused
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.load.blocks import ENOUGH, blocks
from dagster_project.ingest.load.keys import KeyWatch
from dagster_project.ingest.load.proof import encode_texts, join_kind, without_words
from dagster_project.ingest.parse.records import records_to_chunk


def chunk(kind: Kind = Kind.STRING, first: int = 1, /, **columns: list[str | None]) -> Chunk:
    made = {name: Column(pa.array(texts, pa.string()), kind) for name, texts in columns.items()}
    return Chunk(made, len(next(iter(columns.values()))), first, text_bytes=10)


def landed(number: int) -> LandedObject:
    return LandedObject("s", "t", f"f{number}", f"page {number}", landing_id=number)


def test_small_chunks_become_one_block_that_knows_where_rows_came_from() -> None:
    first, second = chunk(a=["1", "2"]), chunk(Kind.STRING, 5, a=["3"])
    second.ordinals = pa.array([7], pa.int64())
    second.refused = [Refused(6, "ragged_row", "2 fields", "x")]
    (block,) = blocks([(landed(1), first), (landed(2), second)], {})
    assert block.columns["a"].values.to_pylist() == ["1", "2", "3"]
    assert [(origin.landing_id, ordinal) for origin, ordinal in map(block.locate, range(3))] == [(1, 1), (1, 2), (2, 7)]
    assert [(origin.name, refused.ordinal) for origin, refused in block.refused] == [("page 2", 6)]


def test_fields_that_some_chunks_lack_are_null_there() -> None:
    (block,) = blocks([(landed(1), chunk(a=["1"])), (landed(2), chunk(b=["2"]))], {})
    assert block.columns["a"].values.to_pylist() == ["1", None]
    assert block.columns["b"].values.to_pylist() == [None, "2"]


def test_kinds_that_can_not_be_mixed_stay_in_blocks_of_their_own() -> None:
    made = list(blocks([(landed(1), chunk(a=["1"])), (landed(2), chunk(Kind.INTEGER, a=["2"]))], {}))
    assert [block.columns["a"].kind for block in made] == [Kind.STRING, Kind.INTEGER]


def test_texts_among_documents_become_documents() -> None:
    (block,) = blocks([(landed(1), chunk(a=['x"'])), (landed(2), chunk(Kind.JSON, a=['{"b":1}']))], {})
    assert block.columns["a"].kind is Kind.JSON
    assert block.columns["a"].values.to_pylist() == ['"x\\""', '{"b":1}']


def test_a_large_chunk_is_a_block_by_itself_and_order_is_kept() -> None:
    large = chunk(a=[str(number) for number in range(ENOUGH)])
    made = list(blocks([(landed(1), chunk(a=["x"])), (landed(2), large), (landed(3), chunk(a=["y"]))], {}))
    assert [block.rows for block in made] == [1, ENOUGH, 1]


def test_empty_objects_are_nothing_to_load() -> None:
    (block,) = blocks([(landed(1), records_to_chunk([], 1))], {})
    assert (block.rows, block.columns) == (0, {})


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_a_former_name_feeds_todays_column_and_todays_value_goes_first(order: tuple[str, str]) -> None:
    values: dict[str, list[str | None]] = {"old": ["1", "2", None], "new": ["9", None, None]}
    (block,) = blocks([(landed(1), chunk(Kind.STRING, 1, **{name: values[name] for name in order}))], {"old": "new"})
    assert list(block.columns) == ["new"]
    assert block.columns["new"].values.to_pylist() == ["9", "2", None]
    assert block.renamed_twice == 1


def test_null_words_are_null_except_in_documents() -> None:
    values = pa.array(["NA", "x", "-", None], pa.string())
    assert without_words(values, Kind.UNTYPED, ["NA", "-"]).to_pylist() == [None, "x", None, None]
    assert without_words(values, Kind.JSON, ["NA"]) is values


def test_json_strings_are_written_for_any_text() -> None:
    texts = ["plain", "", 'a"b\\c\n\t\x01é😀', None]
    import json

    assert [
        None if t is None else json.loads(t) for t in encode_texts(pa.array(texts, pa.string())).to_pylist()
    ] == texts


def test_kinds_join() -> None:
    assert join_kind(Kind.NULL, Kind.DATE) is join_kind(Kind.DATE, Kind.NULL) is Kind.DATE
    assert join_kind(Kind.INTEGER, Kind.DECIMAL) is Kind.DECIMAL
    assert join_kind(Kind.STRING, Kind.JSON) is Kind.JSON
    assert join_kind(Kind.UNTYPED, Kind.JSON) is None
    assert join_kind(Kind.INTEGER, Kind.DOUBLE) is None


@pytest.mark.parametrize("seed", range(5))
def test_repeated_keys_are_found_as_a_dictionary_would(seed: int) -> None:
    generator = random.Random(seed)
    rows = [(generator.randrange(60), generator.randrange(60)) for _ in range(500)]
    watch = KeyWatch(2)
    for start in range(0, 500, 100):
        part = rows[start : start + 100]
        keys = [pa.array([str(row[at]) for row in part], pa.string()) for at in (0, 1)]
        watch.see(keys, ["bigint", "bigint"])
    assert sorted(watch.repeated() or []) == sorted({row for row in rows if rows.count(row) > 1})


def test_a_single_key_may_be_any_number_of_64_bits() -> None:
    watch = KeyWatch(1)
    watch.see([pa.array(["-1", "9223372036854775807", "-1"], pa.string())], ["bigint"])
    assert watch.repeated() == [(-1,)]


@pytest.mark.parametrize(
    ("keys", "types"),
    [
        ([["a"]], ["text"]),
        ([["-1"], ["2"]], ["bigint", "bigint"]),
        ([["4294967296"], ["2"]], ["bigint", "bigint"]),
        ([["+x"]], ["bigint"]),
        ([["1"], ["2"], ["3"]], ["bigint"] * 3),
    ],
)
def test_of_other_keys_nothing_is_known(keys: list[list[str]], types: list[str]) -> None:
    watch = KeyWatch(len(keys))
    watch.see([pa.array(texts, pa.string()) for texts in keys], types)
    watch.see([pa.array(["1"], pa.string()) for _ in keys], ["bigint"] * len(keys))
    assert watch.repeated() is None
