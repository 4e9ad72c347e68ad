"""Files as they are dropped: compressed, in archives, as Parquet or workbooks; whole or refused, never in part."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import zipfile
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from dagster_project.ingest.cards import FileSourceCard
from dagster_project.ingest.chunk import Chunk, Kind
from dagster_project.ingest.errors import DataRefusedError
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.parse import layers, read
from dagster_project.ingest.parse.layers import by_content

CSV = b"a,b\n1,x\n2,y\n"


def parse(name: str, data: bytes, *, card: dict[str, Any] | None = None, **stream: Any) -> list[Chunk]:
    source = FileSourceCard.model_validate(
        {"source": "f", "path": "/", "streams": [{"name": "s", "files": ["*"], **stream}], **(card or {})}
    )
    obj = LandedObject("f", "s", "fp", name, meta={"modified_at": "2024-05-06T07:08:09+00:00"})
    return list(read(source, source.streams[0], obj, lambda: io.BytesIO(data)))


def column(chunks: list[Chunk], name: str) -> list[str | None]:
    return [value for chunk in chunks if chunk.rows for value in chunk.columns[name].values.to_pylist()]


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": zstandard.compress,
    "zip": lambda data: zipped(**{"data.csv": data}),
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["data.csv", "noname"])
def test_layers_are_peeled_whatever_the_name(suffix: str, name: str) -> None:
    packed = PACKERS[suffix](CSV)
    assert column(parse(f"{name}.{suffix}", packed), "b") == ["x", "y"]
    assert column(parse(name, packed), "b") == ["x", "y"]


def test_a_name_that_promises_compression_wrongly_does_no_harm() -> None:
    assert column(parse("data.csv.gz", CSV), "a") == ["1", "2"]


def test_members_come_in_the_order_of_their_names_with_numbers_going_on() -> None:
    data = zipped(
        **{"b.csv": b"a\n3\n", "a.csv.gz": gzip.compress(b"a\n1\n2\n"), "README": b"x", "__MACOSX/c.csv": b"a\n9\n"}
    )
    chunks = parse("all.zip", data, add={"n": "row_number"})
    assert column(chunks, "a") == ["1", "2", "3"]
    assert column(chunks, "n") == ["1", "2", "3"]


def test_members_are_chosen_by_pattern() -> None:
    data = zipped(**{"x/a.csv": b"a\n1\n", "x/b.csv": b"a\n2\n"})
    assert column(parse("all.zip", data, member="b.*"), "a") == ["2"]
    with pytest.raises(DataRefusedError, match=r"no member like 'c\*'; it has \['x/a.csv', 'x/b.csv'\]"):
        parse("all.zip", data, member="c*")
    with pytest.raises(DataRefusedError, match="no member of a known format"):
        parse("all.zip", zipped(README=b"hello"))


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst", "zip"])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_file_cut_short_is_refused(suffix: str, keep: float) -> None:
    packed = PACKERS[suffix](b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * 7919 % 1000) for n in range(50_000)))
    with pytest.raises(DataRefusedError, match=r"too early or are damaged"):
        parse(f"data.csv.{suffix}", packed[: int(len(packed) * keep)])


def test_a_flipped_bit_is_noticed() -> None:
    packed = bytearray(gzip.compress(CSV * 1000))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(DataRefusedError):
        parse("data.csv.gz", bytes(packed))


def test_members_are_read_wherever_they_want_to_be_unpacked_to() -> None:
    data = zipped(
        **{"../../up.csv": b"a\n1\n", "/root.csv": b"a\n2\n", "x/../y.csv": b"a\n3\n", ".hidden.csv": b"a\n9\n"}
    )
    assert column(parse("all.zip", data), "a") == ["1", "2", "3"]


def test_an_archive_of_many_small_bombs_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_project.ingest.parse.layers._FREE", 2_000_000)
    data = zipped(**{f"{n}.csv": b"a\n" + b"0" * 900_000 for n in range(5)})
    with pytest.raises(DataRefusedError, match=r"2\.csv: grows more than 50 times"):
        parse("all.zip", data, card={"max_ratio": 50})
    with pytest.raises(DataRefusedError, match=r"3\.csv: more than"):
        parse("all.zip", data, card={"max_decompressed": 3_000_000, "max_ratio": 2000})
    assert len(column(parse("all.zip", data, card={"max_ratio": 2000}), "a")) == 5


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_FREE", 1_000_000)
    bomb = b"a\n" + b"0" * 20_000_000
    for suffix, pack in PACKERS.items():
        with pytest.raises(DataRefusedError, match="max_ratio"):
            parse(f"bomb.csv.{suffix}", pack(bomb), card={"max_ratio": 50})
    with pytest.raises(DataRefusedError, match="max_decompressed"):
        parse("bomb.csv.gz", gzip.compress(bomb), card={"max_decompressed": 10_000})


def test_archives_in_archives_and_layers_without_end_are_refused() -> None:
    with pytest.raises(DataRefusedError, match="zip archive inside"):
        parse("x.zip", zipped(**{"inner.csv": zipped(**{"a.csv": CSV})}))
    with pytest.raises(DataRefusedError, match="more than 2 times"):
        parse("x.csv.gz", gzip.compress(gzip.compress(gzip.compress(CSV))))


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(zipped(**{"a.csv": CSV}))
    for at in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[at] |= 1
    with pytest.raises(DataRefusedError, match="encrypted"):
        parse("a.zip", bytes(data))


def test_facts_of_the_file_are_added() -> None:
    chunks = parse(
        "sub/data.csv", CSV, add={"f": "file_name", "p": "file_path", "m": "file_modified_at", "n": "row_number"}
    )
    assert [column(chunks, name) for name in "fpmn"] == [
        ["data.csv"] * 2, ["sub/data.csv"] * 2, ["2024-05-06T07:08:09+00:00"] * 2, ["1", "2"],
    ]  # fmt: skip
    assert chunks[0].columns["m"].kind == Kind.TIMESTAMPTZ
    with pytest.raises(DataRefusedError, match="column 'a' itself"):
        parse("data.csv", CSV, add={"a": "file_name"})


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b'{"a":1}\n{"a":2}\n', "jsonl"),
        (b'{\n "a":1}', "json"),
        (b'[{"a":1}]', "json"),
        (b"PAR1", "parquet"),
        (b"a,b\n", "csv"),
        (b"[x],y\n", "csv"),
        (b"", "csv"),
    ],
)
def test_formats_are_told_by_content_where_the_name_is_silent(head: bytes, expected: str) -> None:
    assert by_content(head) == expected


# -- Parquet


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


CASES: list[tuple[pa.Array, Kind, list[str | None]]] = [
    (pa.array([2**63 - 1, None]), Kind.INTEGER, ["9223372036854775807", None]),
    (pa.array([2**64 - 1, 0], pa.uint64()), Kind.INTEGER, ["18446744073709551615", "0"]),
    (pa.array([Decimal("1.10"), Decimal("-0.01")]), Kind.DECIMAL, ["1.10", "-0.01"]),
    (pa.array([0.1, float("nan")]), Kind.DOUBLE, ["0.1", "NaN"]),
    (pa.array([0.1, None], pa.float32()), Kind.DOUBLE, ["0.1", None]),
    (pa.array([True, None]), Kind.BOOLEAN, ["true", None]),
    (pa.array(["", "007"]), Kind.STRING, ["", "007"]),
    (pa.array(["x", None]).dictionary_encode(), Kind.STRING, ["x", None]),
    (pa.array([dt.date(2024, 2, 29), None]), Kind.DATE, ["2024-02-29", None]),
    (pa.array([1_500_000, None], pa.timestamp("us")), Kind.TIMESTAMP, ["1970-01-01T00:00:01.5", None]),
    (pa.array([0, None], pa.timestamp("ms", "Europe/Prague")), Kind.TIMESTAMPTZ, ["1970-01-01T00:00:00Z", None]),
    (pa.array([1000, None], pa.timestamp("ns")), Kind.TIMESTAMP, ["1970-01-01T00:00:00.000001", None]),
    (pa.array([1, None], pa.timestamp("ns")), Kind.STRING, ["1970-01-01T00:00:00.000000001", None]),
    (pa.array([dt.time(1, 2, 3), None]), Kind.STRING, ["01:02:03", None]),
    (pa.array([b"\x00\xff", None]), Kind.STRING, ["\\x00ff", None]),
    (pa.array([[1, None], None]), Kind.JSON, ["[1,null]", None]),
    (pa.array([{"x": Decimal("1.50")}, None]), Kind.JSON, ['{"x":1.50}', None]),
    (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), Kind.JSON, ['{"k":1}', None]),
    (pa.array([None, None], pa.int64()), Kind.NULL, [None, None]),
]


@pytest.mark.parametrize(("array", "kind", "texts"), CASES, ids=[str(case[0].type) for case in CASES])
def test_every_arrow_type_becomes_text_that_loses_nothing(array: pa.Array, kind: Kind, texts: list[str | None]) -> None:
    (chunk,) = parse("x.parquet", parquet(pa.table({"v": array})))
    assert (chunk.columns["v"].kind, chunk.columns["v"].values.to_pylist()) == (kind, texts)


def test_parquet_comes_in_chunks_and_empty_tables_have_columns() -> None:
    table = pa.table({"v": range(300_000), "t": [f"text {n}" for n in range(300_000)]})
    chunks = parse("x.parquet", parquet(table, row_group_size=70_000))
    assert column(chunks, "v") == [str(n) for n in range(300_000)]
    assert len(chunks) > 2
    (empty,) = parse("x.parquet", parquet(table.slice(0, 0)))
    assert (list(empty.columns), empty.rows) == (["v", "t"], 0)


def test_damaged_parquet_is_refused() -> None:
    data = parquet(pa.table({"v": range(1000)}))
    for broken in (data[:-10], b"PAR1" + b"x" * 100, data[:4] + bytes(len(data) - 12) + data[-8:]):
        with pytest.raises(DataRefusedError, match="not a whole Parquet file"):
            parse("x.parquet", broken)


def test_nul_in_parquet_is_replaced_or_refused() -> None:
    data = parquet(pa.table({"v": ["a\0", "b"]}))
    (chunk,) = parse("x.parquet", data)
    assert (chunk.columns["v"].values.to_pylist(), chunk.replaced_nul) == (["a\ufffd", "b"], 1)
    (chunk,) = parse("x.parquet", data, nul_bytes="quarantine")
    assert (chunk.columns["v"].values.to_pylist(), [r.code for r in chunk.refused]) == (["b"], ["nul"])


# -- workbooks


def workbook(*sheets: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_cells_keep_what_they_are() -> None:
    rows: list[list[Any]] = [
        ["id", "zip", "price", "day", "at", "ok", "empty", "mixed"],
        [1, "007", 0.1, dt.date(2024, 2, 29), dt.datetime.fromisoformat("2024-01-02T03:04:05"), True, None, "x"],
        [12345678901, "008", 2.5, dt.date(2024, 3, 1), None, False, None, 5],
    ]
    (chunk,) = parse("x.xlsx", workbook(rows))
    found = {name: (c.kind, c.values.to_pylist()) for name, c in chunk.columns.items()}
    assert found["id"] == (Kind.INTEGER, ["1", "12345678901"])
    assert found["zip"] == (Kind.UNTYPED, ["007", "008"])
    assert found["price"] == (Kind.DECIMAL, ["0.1", "2.5"])
    assert found["day"][1] == ["2024-02-29", "2024-03-01"]
    assert found["at"] == (Kind.TIMESTAMP, ["2024-01-02T03:04:05", None])
    assert found["ok"] == (Kind.BOOLEAN, ["true", "false"])
    assert found["empty"] == (Kind.NULL, [None, None])
    assert found["mixed"] == (Kind.UNTYPED, ["x", "5"])


def test_sheets_are_chosen_by_name_or_number() -> None:
    data = workbook([["a"], [1]], [["b"], [2]])
    assert column(parse("x.xlsx", data), "a") == ["1"]
    assert column(parse("x.xlsx", data, sheet="sheet 1"), "b") == ["2"]
    assert column(parse("x.xlsx", data, sheet=1), "b") == ["2"]
    with pytest.raises(DataRefusedError, match=r"no sheet 'x'; it has \['sheet 0', 'sheet 1'\]"):
        parse("x.xlsx", data, sheet="x")
    with pytest.raises(DataRefusedError, match="there are 2 sheets"):
        parse("x.xlsx", data, sheet=2)


def test_titles_above_the_header_and_empty_rows_are_passed_over() -> None:
    data = workbook([["Report", None], ["a", "b"], [1, 2], [None, None], [3, 4]])
    assert column(parse("x.xlsx", data, csv={"skip_lines": 1}), "b") == ["2", "4"]
    assert parse("x.xlsx", workbook([])) == []


def test_workbooks_too_large_or_damaged_are_refused() -> None:
    data = workbook([["a"], [1]])
    with pytest.raises(DataRefusedError, match="max_document"):
        parse("x.xlsx", data, card={"max_document": 1000})
    for broken in (data[: len(data) // 2], b"PK\x03\x04 nonsense", b"text"):
        with pytest.raises(DataRefusedError, match="workbook"):
            parse("x.xlsx", broken)
