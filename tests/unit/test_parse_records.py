"""Records to chunks: nothing of a value is lost, whatever the column's other values are."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.ingest.cards import FileSourceCard, RestApiSourceCard
from dagster_project.ingest.chunk import Chunk, Kind
from dagster_project.ingest.errors import CardError, DamagedObjectError, DataRefusedError
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.parse import read
from dagster_project.ingest.parse.json import decode, read_document, read_lines
from dagster_project.ingest.parse.records import chunks_of_records, records_to_chunk


def one(*values: Any) -> tuple[Kind, list[str | None]]:
    column = records_to_chunk([{"v": value} for value in values], 1).columns["v"]
    return column.kind, column.values.to_pylist()


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        ([1, None, -7], Kind.INTEGER, ["1", None, "-7"]),
        ([2**64, 1], Kind.INTEGER, ["18446744073709551616", "1"]),
        ([10**5000], Kind.INTEGER, ["1" + "0" * 5000]),
        ([True, False, None], Kind.BOOLEAN, ["true", "false", None]),
        (["007", "", None], Kind.STRING, ["007", "", None]),
        ([Decimal("1.10"), Decimal("0.000000001")], Kind.DECIMAL, ["1.10", "0.000000001"]),
        ([Decimal("1E+5"), 3], Kind.DECIMAL, ["100000", "3"]),
        ([Decimal("1E+5000")], Kind.DECIMAL, ["1E+5000"]),
        ([Decimal("-0.0")], Kind.DECIMAL, ["-0.0"]),
        ([float("nan"), Decimal("0.1"), float("-inf")], Kind.DECIMAL, ["NaN", "0.1", "-Infinity"]),
        ([1, "a", True, Decimal("1.50")], Kind.STRING, ["1", "a", "true", "1.50"]),
        ([True, 1], Kind.STRING, ["true", "1"]),
        ([{"a": Decimal("1.10")}, [1, None]], Kind.JSON, ['{"a":1.10}', "[1,null]"]),
        ([{"a": 1}, "x", 5, None, True], Kind.JSON, ['{"a":1}', '"x"', "5", None, "true"]),
        ([{"a": float("nan")}], Kind.JSON, ['{"a":"NaN"}']),
        ([{"a": 2**70}], Kind.JSON, ['{"a":1180591620717411303424}']),
        ([None, None], Kind.NULL, [None, None]),
    ],
)
def test_a_column_becomes_the_kind_that_holds_all_its_values(
    values: list[Any], kind: Kind, texts: list[str | None]
) -> None:
    assert one(*values) == (kind, texts)


def test_missing_fields_are_null_and_columns_come_in_the_order_of_their_first_sight() -> None:
    chunk = records_to_chunk([{"b": 1}, {"a": 2, "b": 3}, {"c": 4}], 10)
    assert list(chunk.columns) == ["b", "a", "c"]
    assert chunk.columns["a"].values.to_pylist() == [None, "2", None]
    assert chunk.first_ordinal == 10
    assert chunk.ordinals is None


def test_what_is_no_object_is_refused_with_its_number() -> None:
    chunk = records_to_chunk([{"a": 1}, 5, None, {"a": 2}, [1], "x"], 3)
    assert chunk.columns["a"].values.to_pylist() == ["1", "2"]
    assert chunk.ordinals is not None
    assert chunk.ordinals.to_pylist() == [3, 6]
    assert [(r.ordinal, r.code, r.line) for r in chunk.refused] == [
        (4, "not_an_object", "5"),
        (5, "not_an_object", "null"),
        (7, "not_an_object", "[1]"),
        (8, "not_an_object", '"x"'),
    ]


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"])
def test_characters_that_postgres_cannot_keep_are_replaced_and_counted(bad: str) -> None:
    chunk = records_to_chunk([{"v": bad, "n": {"x": [bad]}}, {"v": "fine", "n": {}}], 1)
    assert chunk.columns["v"].values.to_pylist() == ["a\ufffdb", "fine"]
    assert chunk.columns["n"].values.to_pylist() == ['{"x":["a\ufffdb"]}', "{}"]
    assert chunk.replaced_nul == 2


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b"])
def test_or_their_rows_are_refused(bad: str) -> None:
    chunk = records_to_chunk([{"v": 1}, {"v": 2, "t": bad}, {"v": 3}], 1, nul_bytes="quarantine")
    assert chunk.columns["v"].values.to_pylist() == ["1", "3"]
    assert chunk.ordinals is not None
    assert chunk.ordinals.to_pylist() == [1, 3]
    assert [(r.ordinal, r.code) for r in chunk.refused] == [(2, "nul")]
    assert chunk.replaced_nul == 0


def test_a_backslash_before_u0000_is_no_nul() -> None:
    chunk = records_to_chunk([{"n": {"x": "\\u0000"}}], 1)
    assert chunk.columns["n"].values.to_pylist() == ['{"x":"\\\\u0000"}']
    assert chunk.replaced_nul == 0


def test_a_name_with_a_nul_is_made_fit() -> None:
    assert list(records_to_chunk([{"a\0": 1}], 1).columns) == ["a\ufffd"]


scalars = st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text()


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
"""Of fields, as they stay: what becomes of others is tested above."""


@given(st.lists(st.dictionaries(names, scalars | st.lists(scalars, max_size=2), min_size=1, max_size=4), max_size=8))
def test_every_value_is_found_again(records: list[dict[str, Any]]) -> None:
    chunk = records_to_chunk(records, 1)
    assert chunk.rows == len(records)
    for column in chunk.columns.values():
        assert len(column.values) == len(records)
        column.values.validate(full=True)
    if chunk.replaced_nul == 0:
        for name, column in chunk.columns.items():
            if column.kind in {Kind.INTEGER, Kind.DECIMAL}:
                read_back = [None if v is None else Decimal(v) for v in column.values.to_pylist()]
                assert read_back == [r.get(name) for r in records]
            if column.kind == Kind.JSON:
                assert [None if v is None else decode(v) for v in column.values.to_pylist()] == [
                    as_json(r.get(name)) for r in records
                ]


def as_json(value: Any) -> Any:
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return int(value) if isinstance(value, Decimal) and "E" not in str(value) and "." not in str(value) else value


def test_many_records_come_in_several_chunks() -> None:
    chunks = list(chunks_of_records([{"a": n} for n in range(10)], 1, rows=4))
    assert [(c.rows, c.first_ordinal) for c in chunks] == [(4, 1), (4, 5), (2, 9)]


# -- decoding


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.10", Decimal("1.10")),
        ("-0", 0),
        ("1e400", Decimal("1E+400")),
        ("18446744073709551616", 2**64),
        ('"\\ud800"', "\ud800"),
        ('{"a":1,"a":2}', {"a": 2}),
        ('"\\u0000"', "\0"),
    ],
)
def test_decoding_loses_nothing(text: str, value: Any) -> None:
    assert decode(text) == value


def test_numbers_of_thousands_of_digits_are_decoded() -> None:
    assert str(decode("1" * 6000)) == "1" * 6000


@pytest.mark.parametrize("text", ["", "[1,]", "{'a':1}", "[" * 200_000, "nul", '{"a":1} x'])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


def document(data: bytes, records: str | None = None, limit: int = 10**6) -> list[Chunk]:
    return list(read_document(io.BytesIO(data), records, "doc", limit=limit))


def values(chunks: list[Chunk], name: str) -> list[str | None]:
    return [value for chunk in chunks if chunk.rows for value in chunk.columns[name].values.to_pylist()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_documents_in_any_unicode_encoding(encoding: str) -> None:
    assert values(document('[{"v": "žluť"}, {"v": "日本"}]'.encode(encoding)), "v") == ["žluť", "日本"]


def test_records_are_found_by_path() -> None:
    data = b'{"count": 2, "data": {"items": [{"v": 1}, {"v": 2}]}}'
    assert values(document(data, "data.items"), "v") == ["1", "2"]
    assert values(document(b'{"v": 5}'), "v") == ["5"]
    assert document(b'{"items": null}', "items") == []
    assert document(b"[]") == []
    assert document(b"  ") == []


def test_nothing_at_the_path_says_what_there_is() -> None:
    with pytest.raises(DataRefusedError, match=r"nothing at `records: items`; the document has the keys \['error'\]"):
        document(b'{"error": "quota"}', "items")


def test_a_path_that_is_none_is_the_cards_mistake() -> None:
    with pytest.raises(CardError, match="no JMESPath"):
        document(b"{}", "a[")


def test_a_document_too_large_is_refused_in_words() -> None:
    with pytest.raises(DataRefusedError, match="max_document"):
        document(b"[" + b"1," * 600_000 + b"1]")


def test_json_lines_named_json_are_read() -> None:
    assert values(document(b'{"v":1}\n{"v":2}\n'), "v") == ["1", "2"]


def lines(data: bytes) -> list[Chunk]:
    return list(read_lines(io.BytesIO(data)))


def test_lines_that_are_not_json_are_refused_with_their_number() -> None:
    chunks = lines(b'{"v":1}\n\nnonsense\r\n{"v":2}\n5\n{"v":3}\n{"v":')
    assert values(chunks, "v") == ["1", "2", "3"]
    refused = [(r.ordinal, r.code, r.line) for chunk in chunks for r in chunk.refused]
    assert refused == [(2, "not_json", "nonsense"), (4, "not_an_object", "5"), (6, "not_json", '{"v":')]


def test_lines_longer_than_a_block_and_more_than_a_chunk() -> None:
    long = "x" * 3_000_000
    data = f'{{"v":"{long}"}}\n'.encode() + b'{"v":"y"}\n' * 40_000
    chunks = lines(data)
    assert sum(chunk.rows for chunk in chunks) == 40_001
    assert chunks[0].columns["v"].values[0].as_py() == long
    assert [c.first_ordinal for c in chunks] == [1 + sum(c.rows for c in chunks[:n]) for n in range(len(chunks))]


def test_a_broken_byte_in_one_line_refuses_that_line_alone() -> None:
    chunks = lines('{"v":"ž"}\n'.encode() + b'{"v":"\xff"}\n' + '{"v":"ý"}\n'.encode())
    assert values(chunks, "v") == ["ž", "ý"]


# -- the way in


def rest(**changes: Any) -> RestApiSourceCard:
    stream = {"name": "s", "path": "/", **changes}
    return RestApiSourceCard.model_validate({"source": "api", "base_url": "http://x", "streams": [stream]})


def test_parents_fields_are_added_and_ignored_ones_left_out() -> None:
    card = rest(records="items", ignore=["b"])
    obj = LandedObject("api", "s", "f", "http://x/", meta={"parent": {"author_id": 7}})
    chunks = list(read(card, card.streams[0], obj, lambda: io.BytesIO(b'{"items": [{"a": 1, "b": 2}]}')))
    assert {name: c.values.to_pylist() for name, c in chunks[0].columns.items()} == {"a": ["1"], "author_id": ["7"]}


@pytest.mark.parametrize("limit", [0, 1, 3, 5, 9])
def test_a_limit_ends_in_the_middle_of_a_chunk(limit: int) -> None:
    card = FileSourceCard.model_validate({"source": "f", "path": "/", "streams": [{"name": "s", "files": ["*"]}]})
    obj = LandedObject("f", "s", "f", "a.jsonl")
    data = b'{"v":1}\nbad\n{"v":2}\n{"v":3}\n{"v":4}\n{"v":5}\n'
    chunks = list(read(card, card.streams[0], obj, lambda: io.BytesIO(data), limit=limit))
    assert sum(chunk.rows for chunk in chunks) == min(limit, 5)


def test_a_column_of_nothing_but_nan_is_one_of_exact_numbers() -> None:
    assert one(float("nan"), None) == (Kind.DECIMAL, ["NaN", None])


HUGE = "1e99999999999999999999"


def test_a_number_that_nothing_can_hold_is_its_text() -> None:
    document = f'[{{"id":1,"v":{HUGE}}},{{"id":2,"v":1}}]'.encode()
    (chunk,) = read_document(io.BytesIO(document), None, "x.json", limit=1000)
    assert chunk.columns["v"].values.to_pylist() == [HUGE, "1"]
    lines = [f'{{"id":1,"v":{HUGE}}}', '{"id":2,"v":1}']
    chunks = list(read_lines(io.BytesIO("\n".join(lines).encode())))
    assert [text for chunk in chunks for text in chunk.columns["v"].values.to_pylist()] == [HUGE, "1"]


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 1100, 10_000])
@pytest.mark.parametrize("inside", ["1", '"\\u0000"', "NaN", HUGE])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_no_nesting_is_too_deep_to_be_told_in_words(depth: int, inside: str, brackets: tuple[str, str]) -> None:
    value = brackets[0] * depth + inside + brackets[1] * depth
    lines = f'{{"id":1,"v":{value}}}\n{{"id":2,"v":1}}\n[{value}]\n'.encode()
    chunks = list(read_lines(io.BytesIO(lines)))
    assert sum(chunk.rows + len(chunk.refused) for chunk in chunks) == 3
    codes = {refused.code for chunk in chunks for refused in chunk.refused}
    assert codes <= {"too_deep", "not_json", "not_an_object"}
    assert "2" in [text for chunk in chunks if chunk.rows for text in chunk.columns["id"].values.to_pylist()]
    document = f'[{{"id":1,"v":{value}}},{{"id":2,"v":1}}]'.encode()
    try:
        chunks = list(read_document(io.BytesIO(document), None, "x.json", limit=10**7))
    except DamagedObjectError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 - which depth the decoder takes is Python's matter
    else:
        assert sum(chunk.rows + len(chunk.refused) for chunk in chunks) == 2


def test_records_without_fields_are_refused_one_by_one() -> None:
    chunk = records_to_chunk([{"id": 1}, {}, {"id": 2}, {"id": None}, {}], 1)
    assert chunk.columns["id"].values.to_pylist() == ["1", "2", None]
    assert chunk.ordinals is not None
    assert chunk.ordinals.to_pylist() == [1, 3, 4]
    assert [(refused.ordinal, refused.code, refused.line) for refused in chunk.refused] == [
        (2, "empty_row", "{}"),
        (5, "empty_row", "{}"),
    ]
