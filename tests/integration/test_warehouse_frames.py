"""DataFrames in and out: types and values kept, all or nothing, the table's surroundings left in place."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dagster_project.settings import Settings
from dagster_project.warehouse.frames import FrameError, Warehouse

UTC = dt.UTC
many = hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture
def house(settings: Settings) -> Warehouse:
    return Warehouse(settings)


def objects(values: list[Any]) -> pd.Series[Any]:
    """Make a column of Python objects; NumPy would turn equal lists into a matrix."""
    array = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        array[place] = value
    return pd.Series(array, dtype=object)


def back(house: Warehouse, values: pd.Series[Any] | list[Any]) -> list[Any]:
    """Write one column, read it, and give it as Python values with None for missing."""
    series = values if isinstance(values, pd.Series) else objects(values)
    house.write_frame(pd.DataFrame({"n": range(len(series)), "v": series}), "features.t")
    frame = house.read_frame("select v from features.t order by n")
    return [None if value is pd.NA or value is pd.NaT else value for value in frame["v"].tolist()]


def column_type(house: Warehouse, table: str, column: str = "v") -> str:
    """Give a column's type as Postgres says it."""
    with house.connect() as connection:
        row = connection.execute(
            "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass and attname = %s",
            (table, column),
        ).fetchone()
    assert row is not None
    return str(row[0])


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
INTS = st.integers(-(2**63), 2**63 - 1)
BIG = st.integers(-(10**40), 10**40)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
TIMES = st.datetimes()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (TEXT, "text"),
        (INTS, "bigint"),
        (DECIMALS, "numeric"),
        (st.booleans(), "boolean"),
        (st.dates(), "date"),
        (st.uuids(), "uuid"),
        (st.binary(max_size=20), "bytea"),
        (st.times(), "time without time zone"),
        (st.timedeltas(dt.timedelta(days=-10_000), dt.timedelta(days=10_000)), "interval"),
    ],
    ids=["text", "int", "decimal", "bool", "date", "uuid", "bytes", "time", "timedelta"],
)
def test_python_values_come_back(house: Warehouse, values: st.SearchStrategy[Any], kind: str) -> None:
    @many
    @given(st.lists(st.none() | values, min_size=1, max_size=30).filter(lambda each: any(v is not None for v in each)))
    def check(column: list[Any]) -> None:
        with house.connect() as connection:
            connection.execute("drop table if exists features.t")
        assert back(house, column) == column
        assert column_type(house, "features.t") == kind

    check()


def test_integers_beyond_bigint_are_exact(house: Warehouse) -> None:
    assert back(house, [2**63, None, -(10**40)]) == [decimal.Decimal(2**63), None, decimal.Decimal(-(10**40))]
    assert column_type(house, "features.t") == "numeric"


@many
@given(st.lists(st.none() | TIMES, min_size=1, max_size=30))
def test_times_come_back(house: Warehouse, column: list[dt.datetime | None]) -> None:
    naive = pd.Series(pd.array(column, dtype="datetime64[us]"))
    assert back(house, naive) == [None if value is None else pd.Timestamp(value).as_unit("us") for value in column]
    aware = [None if value is None else value.replace(tzinfo=UTC) for value in column]
    got = back(house, pd.Series(pd.array(aware, dtype="datetime64[us, UTC]")))
    assert got == aware


@many
@given(st.lists(st.none() | st.floats(), min_size=1, max_size=30))
def test_floats_come_back_and_nan_is_not_null(house: Warehouse, column: list[float | None]) -> None:
    got = back(house, pa.array(column, pa.float64()).to_pandas(types_mapper=pd.ArrowDtype))
    assert [repr(value) for value in got] == [repr(value) for value in column]


def test_zones_other_than_utc_keep_the_moment(house: Warehouse) -> None:
    times = pd.Series(
        pd.array([dt.datetime.fromisoformat("2024-07-01 12:00"), None], dtype="datetime64[us]")
    ).dt.tz_localize("Europe/Berlin")
    assert back(house, times) == [pd.Timestamp("2024-07-01 10:00", tz="UTC"), None]
    fixed = dt.timezone(dt.timedelta(hours=5, minutes=30))
    assert back(house, [dt.datetime(2024, 7, 1, 12, tzinfo=fixed)]) == [pd.Timestamp("2024-07-01 06:30", tz="UTC")]


@pytest.mark.parametrize(
    ("series", "kind", "read"),
    [
        (pd.Series([1, None, 2**62], dtype="Int64"), "bigint", "Int64"),
        (pd.Series([1, 2, 3], dtype="int32"), "integer", "Int32"),
        (pd.Series([1, 2, 3], dtype="uint8"), "smallint", "Int16"),
        (pd.Series([0, 1, 2**64 - 1], dtype="uint64"), "numeric", "object"),
        (pd.Series([True, None, False], dtype="boolean"), "boolean", "boolean"),
        (pd.Series([1.5, np.nan, 0.1]), "double precision", "double[pyarrow]"),
        (pd.Series([1.5, np.nan, 0.25], dtype="float32"), "real", "float[pyarrow]"),
        (pd.Series(["a", None, ""], dtype="string"), "text", "string"),
        (pd.Series(["a", None, ""], dtype="str"), "text", "string"),
        (pd.Series(["b", None, "b"], dtype="category"), "text", "string"),
        (pd.Series([3, 1, 3], dtype="category"), "bigint", "Int64"),
        (
            pd.Series(
                [decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")], dtype=pd.ArrowDtype(pa.decimal128(5, 2))
            ),
            "numeric(5,2)",
            "decimal128(5, 2)[pyarrow]",
        ),
        (
            pd.Series([dt.date(2024, 1, 2), None, dt.date(1, 1, 1)], dtype=pd.ArrowDtype(pa.date32())),
            "date",
            "date32[day][pyarrow]",
        ),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, pd.Series) else None,
)
def test_column_types_are_kept(house: Warehouse, series: pd.Series[Any], kind: str, read: str) -> None:
    house.write_frame(pd.DataFrame({"n": [0, 1, 2], "v": series}), "features.t")
    assert column_type(house, "features.t") == kind
    frame = house.read_frame("select v from features.t order by n")
    assert str(frame["v"].dtype) == read
    assert list(frame["v"].isna()) == list(series.isna())
    for got, want in zip(frame["v"].dropna(), series.dropna(), strict=True):
        assert got == want


def test_text_null_and_empty_stay_apart_with_every_kind_of_character(house: Warehouse) -> None:
    values = ["", None, "NULL", '"', "a,b", "x\ny\r\nz", "\\.", "\\N", "日本 é \U0001f600", " lead", "007"]
    assert back(house, values) == values
    only = house.read_frame("select v from features.t order by n")["v"]
    assert list(only.isna()) == [value is None for value in values]


def test_lists_objects_and_vectors(house: Warehouse) -> None:
    assert back(house, [[1, 2, None], [], None]) == [[1, 2, None], [], None]
    assert column_type(house, "features.t") == "bigint[]"
    texts = [['a"b\\', "", None, "NULL", "{x}", "é,"], None]
    assert back(house, texts) == texts
    nested = [{"a": [1, {"b": None}], "é": "ü"}, None, {}]
    assert back(house, nested) == nested
    assert column_type(house, "features.t") == "jsonb"
    assert back(house, [[{"a": 1}], [[1], [2]]]) == [[{"a": 1}], [[1], [2]]]
    vectors: list[Any] = [np.array([1.5, -2, 3e-7], dtype=np.float32), None, np.zeros(3, dtype=np.float32)]
    got = back(house, vectors)
    assert column_type(house, "features.t") == "vector(3)"
    assert got[1] is None
    assert got[0].dtype == np.float32
    assert np.array_equal(got[0], vectors[0])
    assert np.array_equal(got[2], vectors[2])


def test_a_column_without_values_and_frames_without_rows(house: Warehouse) -> None:
    assert back(house, [None, None]) == [None, None]
    assert column_type(house, "features.t") == "text"
    empty = pd.DataFrame({"a": pd.Series(dtype="Int64"), "b": pd.Series(dtype="string")})
    report = house.write_frame(empty, "features.e")
    assert (report.rows, report.created) == (0, True)
    got = house.read_frame("features.e")
    assert list(got.dtypes.astype(str)) == ["Int64", "string"]
    assert len(got) == 0


def test_a_whole_frame_comes_back_as_it_was_read(house: Warehouse) -> None:
    query = """
      select 1::bigint as i, null::int as n, 'x'::text as t, now() as w, date '2024-02-29' as d, 1.10::numeric as m,
             true as b, '{"a": 1}'::jsonb as j, array['a'] as l, '[1,2]'::vector as v, 'ok'::char(3) as c
      union all select null, null, '', null, null, null, null, null, null, null, null
    """
    first = house.read_frame(query)
    house.write_frame(first, "features.t")
    second = house.read_frame("select * from features.t order by i")
    assert list(first.dtypes.astype(str))[:7] == list(second.dtypes.astype(str))[:7]
    assert first["m"][0] == decimal.Decimal("1.10") == second["m"][0]
    assert str(first["m"][0]) == "1.10"
    assert (first["j"][0], second["j"][0], second["l"][0]) == ({"a": 1}, {"a": 1}, ["a"])
    assert first["c"][0] == "ok "


def test_parameters_are_values(house: Warehouse) -> None:
    frame = house.read_frame("select %(a)s::text as a, %(b)s::int + 1 as b", {"a": "x'; drop table t; --", "b": 1})
    assert frame.to_dict("records") == [{"a": "x'; drop table t; --", "b": 2}]
    assert house.read_frame("select '50%%' as a, 7 %% %s as b", [4])["b"][0] == 3
    assert house.read_frame("select '50%' as a;")["a"][0] == "50%"
    assert house.read_frame("select 1 as a -- a comment\n")["a"][0] == 1


def test_reading_refuses_what_pandas_cannot_hold(house: Warehouse) -> None:
    with pytest.raises(FrameError, match=r"infinity|finite"):
        house.read_frame("select 'infinity'::timestamptz as at")
    with pytest.raises(FrameError, match="more than one column a"):
        house.read_frame("select 1 as a, 2 as a")


def test_a_large_text_is_read_whole(house: Warehouse) -> None:
    big = "é\n" * 5_000_000
    frame = house.read_frame("select repeat(%s, 5000000) as v union all select 'x'", ["é\n"])
    assert frame["v"][0] == big


def test_replace_keeps_the_table_its_grants_and_its_views(house: Warehouse, settings: Settings) -> None:
    house.write_frame(pd.DataFrame({"id": [1, 2], "v": ["a", "b"]}), "features.t")
    with house.connect() as connection:
        connection.execute("create view features.w as select v from features.t")
        connection.execute("grant delete on features.t to bindery_reader")
        before = connection.execute("select 'features.t'::regclass::oid").fetchone()
    report = house.write_frame(pd.DataFrame({"id": [3.5], "v": ["c"], "new": [True]}), "features.t")
    assert sorted(report.changes) == ["added new", "id from bigint to double precision"]
    with house.connect() as connection:
        assert connection.execute("select 'features.t'::regclass::oid").fetchone() == before
        assert connection.execute("select v from features.w").fetchall() == [("c",)]
    with Warehouse(settings, "reader").connect() as connection:
        connection.execute("delete from features.t")
    with pytest.raises(FrameError, match=r"something depends on them.*view features\.w"):
        house.write_frame(pd.DataFrame({"id": [1]}), "features.t")
    with pytest.raises(FrameError, match="depends on"):
        house.write_frame(pd.DataFrame({"id": [1], "v": [1]}), "features.t")


def test_replace_is_all_or_nothing(house: Warehouse) -> None:
    house.write_frame(pd.DataFrame({"v": ["kept"]}), "features.t")
    with house.connect() as connection:
        connection.execute("alter table features.t add check (v <> 'bad')")
    with pytest.raises(FrameError, match="violates check constraint"):
        house.write_frame(pd.DataFrame({"v": ["fine", "bad"]}), "features.t")
    assert list(house.read_frame("features.t")["v"]) == ["kept"]


def test_replace_keeps_a_wider_type_of_the_table(house: Warehouse) -> None:
    with house.connect() as connection:
        connection.execute("create table features.t (v numeric(20,4), j jsonb, x real[])")
    frame = pd.DataFrame({"v": [1], "j": ["text"], "x": objects([np.array([1, 2], dtype=np.float32)])})
    assert house.write_frame(frame, "features.t").changes == []
    got = house.read_frame("features.t")
    assert (got["v"][0], got["j"][0], list(got["x"][0])) == (decimal.Decimal("1.0000"), "text", [1.0, 2.0])


def test_append_needs_the_tables_columns(house: Warehouse) -> None:
    house.write_frame(pd.DataFrame({"id": [1], "v": ["a"]}), "features.t", "append")
    report = house.write_frame(pd.DataFrame({"v": ["b"], "id": [2]}), "features.t", "append")
    assert (report.inserted, report.created) == (1, False)
    assert house.read_frame("select * from features.t order by id").to_dict("list") == {"id": [1, 2], "v": ["a", "b"]}
    with pytest.raises(FrameError, match=r"no column 'w'.*'id' is bigint there and text in the frame"):
        house.write_frame(pd.DataFrame({"w": [1], "id": ["x"]}), "features.t", "append")
    with house.connect() as connection:
        connection.execute("create table features.n (id integer)")
    with pytest.raises(FrameError, match=r"refuses a row.*out of range.*line 2, column id"):
        house.write_frame(pd.DataFrame({"id": [1, 2**40]}), "features.n", "append")


def test_merge_inserts_updates_and_leaves_equal_rows_alone(house: Warehouse) -> None:
    start = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "v": [1.5, np.nan, 3.5]})
    report = house.write_frame(start, "features.t", "merge", key=["a"])
    assert (report.inserted, report.updated, report.unchanged, report.created) == (3, 0, 0, True)
    with house.connect() as connection:
        before = dict(connection.execute("select a, xmin::text from features.t").fetchall())
    change = pd.DataFrame({"a": [2, 3, 4], "b": ["y", "new", "z"], "v": [np.nan, 3.5, 4.5]})
    report = house.write_frame(change, "features.t", "merge", key="a")
    assert (report.inserted, report.updated, report.unchanged) == (1, 1, 1)
    with house.connect() as connection:
        after = dict(connection.execute("select a, xmin::text from features.t").fetchall())
    assert {key for key in before if before[key] != after[key]} == {3}
    assert list(house.read_frame("select b from features.t order by a")["b"]) == ["x", "y", "new", "z"]
    keys = house.write_frame(pd.DataFrame({"a": [1, 9]}), "features.k", "merge", key="a")
    assert (keys.inserted, keys.unchanged) == (2, 0)
    assert house.write_frame(pd.DataFrame({"a": [1, 9]}), "features.k", "merge", key="a").unchanged == 2


def test_merge_makes_the_index_it_needs_or_says_why_not(house: Warehouse) -> None:
    house.write_frame(pd.DataFrame({"a": [1, 1], "b": [1, 2]}), "features.t")
    with pytest.raises(FrameError, match=r"\(a\) isn't a key of features\.t.*\(1\)"):
        house.write_frame(pd.DataFrame({"a": [1], "b": [3]}), "features.t", "merge", key="a")
    report = house.write_frame(pd.DataFrame({"b": [1, 3], "a": [1, 1]}), "features.t", "merge", key=["b", "a"])
    assert (report.inserted, report.unchanged) == (1, 1)


@pytest.mark.parametrize(
    ("frame", "keywords", "words"),
    [
        (pd.DataFrame({"a": [1, 1]}), {"mode": "merge", "key": "a"}, "isn't unique: 1 rows"),
        (pd.DataFrame({"a": [1.0, np.nan]}), {"mode": "merge", "key": "a"}, "missing values"),
        (pd.DataFrame({"a": [1]}), {"mode": "merge", "key": "b"}, "hasn't: b"),
        (pd.DataFrame({"a": [1]}), {"mode": "merge"}, "needs key="),
        (pd.DataFrame({"a": objects([1, "x"])}), {}, "column 'a' mixes bigint, text"),
        (pd.DataFrame({"a": objects([2**60, 0.5])}), {}, "column 'a' mixes"),
        (pd.DataFrame({"a": objects([object()])}), {}, "column 'a' holds object"),
        (pd.DataFrame({"a": ["x", "nul \0"]}), {}, "column 'a', row 1: .*NUL"),
        (pd.DataFrame({"a": objects(["nul \0"])}), {}, "column 'a', row 0: .*NUL"),
        (pd.DataFrame({"a": pd.to_datetime(["2024-01-01 00:00:00.000000001"])}), {}, "column 'a' has nanoseconds"),
        (
            pd.DataFrame(
                {"a": objects([dt.datetime.fromisoformat(text) for text in ("2024-01-01", "2024-01-01T00:00Z")])}
            ),
            {},
            "with and without zone",
        ),
        (pd.DataFrame({"a": objects([{"x": math.nan}])}), {}, "column 'a'"),
        (pd.DataFrame({1: [1]}), {}, "1 is no column name"),
        (pd.DataFrame({"x" * 64: [1]}), {}, "is no column name"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "two columns have one name"),
        (pd.DataFrame(), {}, "no columns"),
        (pd.DataFrame({"a": [1]}).rename_axis("i"), {}, "reset_index"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    house: Warehouse, frame: pd.DataFrame, keywords: dict[str, Any], words: str
) -> None:
    with pytest.raises(FrameError, match=words):
        house.write_frame(frame, "features.t", **keywords)
    with house.connect() as connection:
        assert connection.execute("select to_regclass('features.t')").fetchone() == (None,)


def test_names_are_quoted_and_tables_have_schemas(house: Warehouse) -> None:
    frame = pd.DataFrame({'we"ird, name': [1], "SELECT": ["x"], "日本": [True]})
    house.write_frame(frame, "features.t")
    assert list(house.read_frame("features.t").columns) == list(frame.columns)
    for bad in ("t", "features.t; drop table x", "a.b.c"):
        with pytest.raises(FrameError, match="no table name"):
            house.write_frame(frame, bad)


def test_a_role_writes_only_where_it_may(settings: Settings) -> None:
    with pytest.raises(FrameError, match="bindery_reader may not write features"):
        Warehouse(settings, "reader").write_frame(pd.DataFrame({"a": [1]}), "features.t")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        Warehouse(settings, "api").read_frame("select * from bindery.loads")
