"""What type texts have, by shape, and which wider type keeps two of them."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.ingest.chunk import Kind
from dagster_project.ingest.load.types import TYPES, UNKNOWN, fits, infer, join


def column(*texts: str | None) -> pa.Array:
    return pa.array(texts, pa.string())


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["1", "-5", "0"], "bigint"),
        (["9223372036854775807", "-9223372036854775808"], "bigint"),
        (["9223372036854775808"], "numeric"),
        (["18446744073709551615", "1"], "numeric"),
        (["1", "2.50"], "numeric"),
        (["-0.5"], "numeric"),
        (["007"], "text"),
        (["00501", "10001"], "text"),
        (["+5"], "text"),
        ([" 5"], "text"),
        (["1e5"], "text"),
        (["NaN"], "text"),
        (["1_000"], "text"),
        (["0x1F"], "text"),
        (["-0"], "text"),
        (["-0.0"], "text"),
        (["1."], "text"),
        ([".5"], "text"),
        (["true", "false"], "boolean"),
        (["True"], "text"),
        (["t", "f"], "text"),
        (["2024-02-29"], "date"),
        (["2023-02-29"], "text"),
        (["1900-02-29"], "text"),
        (["2000-02-29"], "date"),
        (["2024-13-01"], "text"),
        (["2024-04-31"], "text"),
        (["0000-01-01"], "text"),
        (["2024-1-1"], "text"),
        (["20240101"], "bigint"),
        (["2024-01-01T10:00:00", "2024-01-01 10:00"], "timestamp"),
        (["2024-01-01T10:00:00Z", "2024-01-01 10:00:00.123456+05:30"], "timestamptz"),
        (["2024-01-01T10:00:00Z", "2024-01-01T10:00:00"], "text"),
        (["2024-01-01T24:00:00"], "text"),
        (["2024-01-01T10:60:00"], "text"),
        (["2024-01-01T10:00:00.1234567"], "text"),
        (["2024-01-01", "2024-01-01T10:00:00"], "text"),
        (["1", "", None], "bigint"),
        (["", ""], "text"),
        ([None, None], UNKNOWN),
        (["1" * 1001], "text"),
        (["1", "x"], "text"),
    ],
)
def test_untyped_text_gets_the_type_that_gives_it_back(texts: list[str | None], found: str) -> None:
    assert infer(column(*texts), Kind.UNTYPED) == found


@pytest.mark.parametrize(
    ("kind", "texts", "found"),
    [
        (Kind.STRING, ["7", "8"], "text"),
        (Kind.STRING, ["true"], "text"),
        (Kind.STRING, ["2024-01-01"], "date"),
        (Kind.STRING, ["2024-01-01T00:00:00Z"], "timestamptz"),
        (Kind.INTEGER, ["7"], "bigint"),
        (Kind.INTEGER, ["18446744073709551615"], "numeric"),
        (Kind.DECIMAL, ["7", "0.1000000000000000055511151231257827"], "numeric"),
        (Kind.DECIMAL, ["1e5", "NaN"], "numeric"),
        (Kind.DOUBLE, ["1e+300", "NaN"], "double precision"),
        (Kind.BOOLEAN, ["true"], "boolean"),
        (Kind.JSON, ['{"a":1}'], "jsonb"),
        (Kind.TIMESTAMP, ["2024-01-01T00:00:00.123456789"], "text"),
        (Kind.NULL, [None], UNKNOWN),
        (Kind.INTEGER, [None], UNKNOWN),
    ],
)
def test_a_source_that_says_what_a_value_is_is_believed(kind: Kind, texts: list[str | None], found: str) -> None:
    assert infer(column(*texts), kind) == found


def test_no_values_are_of_no_type() -> None:
    assert infer(column(), Kind.UNTYPED) == UNKNOWN


@pytest.mark.parametrize(
    ("left", "right", "wider"),
    [
        ("bigint", "numeric", "numeric"),
        ("bigint", "double precision", "numeric"),
        ("numeric", "double precision", "numeric"),
        ("bigint", "text", "text"),
        ("date", "timestamp", "text"),
        ("timestamp", "timestamptz", "text"),
        ("boolean", "bigint", "text"),
        ("text", "jsonb", "jsonb"),
        ("date", "jsonb", "jsonb"),
        (UNKNOWN, "date", "date"),
    ],
)
def test_types_widen_without_loss(left: str, right: str, wider: str) -> None:
    assert join(left, right) == join(right, left) == wider


def test_widening_has_no_way_back() -> None:
    for one, two, three in itertools.product([*TYPES, UNKNOWN], repeat=3):
        assert join(one, one) == one
        assert join(join(one, two), three) == join(one, join(two, three)), (one, two, three)


@given(st.integers(-(2**66), 2**66))
def test_whole_numbers_that_fit_are_those_of_64_bits(number: int) -> None:
    mask = fits(column(str(number), None, ""), "bigint")
    fine = -(2**63) <= number < 2**63
    assert (mask is None) == fine
    if mask is not None:
        assert mask.to_pylist() == [False, True, True]


@given(st.dates())
def test_every_date_has_the_shape_of_a_date(day: object) -> None:
    assert infer(column(str(day)), Kind.UNTYPED) == "date"


@given(st.datetimes())
def test_every_moment_has_the_shape_of_a_timestamp(moment: object) -> None:
    assert infer(column(str(moment)), Kind.UNTYPED) == "timestamp"


@given(st.integers(1, 9999), st.integers(0, 14), st.integers(0, 33))
def test_only_days_of_the_calendar_are_dates(year: int, month: int, day: int) -> None:
    from datetime import date

    text = f"{year:04d}-{month:02d}-{day:02d}"
    try:
        date(year, month, day)
    except ValueError:
        assert infer(column(text), Kind.UNTYPED) == "text"
    else:
        assert infer(column(text), Kind.UNTYPED) == "date"
