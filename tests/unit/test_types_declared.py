"""What declared types accept, and the form in which Postgres gets it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from dagster_project.ingest.cards.base import Column
from dagster_project.ingest.chunk import Kind
from dagster_project.ingest.load.convert import declared_type
from dagster_project.ingest.load.proof import prove


def declared(texts: list[str | None], kind: Kind = Kind.UNTYPED, **rules: Any) -> list[str | None]:
    """Prove texts; give what COPY gets, ``!`` where the row is refused."""
    column = Column(**rules)
    data_type = declared_type(column)
    assert data_type is not None
    proven = prove(pa.array(texts, pa.string()), kind, data_type, column)
    good = [True] * len(texts) if proven.good is None else proven.good.to_pylist()
    return [text if fine else "!" for text, fine in zip(proven.values.to_pylist(), good, strict=True)]


def test_a_declared_bigint_reads_what_people_mean() -> None:
    assert declared([" 5", "+7", "007", "1977.0", "-3", "", None], type="bigint") == [
        *("5", "+7", "007", "1977", "-3"),
        *(None, None),
    ]
    assert declared(["1.5", "1e5", "abc", "1_000", "0x1F", "9223372036854775808"], type="bigint") == ["!"] * 6
    ends: list[str | None] = ["9223372036854775807", "-9223372036854775808", "000000000000000000000000000001"]
    assert declared(ends, type="bigint") == ends


def test_a_declared_number_may_have_a_decimal_comma() -> None:
    texts: list[str | None] = ["1.234,56", "7", "-0,5", "12.34", "1,2,3", None]
    assert declared(texts, type="numeric", decimal=",") == ["1234.56", "7", "-0.5", "!", "!", None]
    assert declared(["1.000"], type="bigint", decimal=",") == ["1000"]


def test_exponents_and_nan_are_numbers_where_declared() -> None:
    numbers: list[str | None] = ["1e5", "NaN", "-Infinity", "x", "1e99999"]
    assert declared(numbers, type="numeric") == ["1e5", "NaN", "-Infinity", "!", "!"]
    doubles: list[str | None] = ["1e5", "nan", "inf", "1e400", "1e-400", "0", "0.0", "1,5"]
    assert declared(doubles, type="double precision") == ["1e5", "nan", "inf", "!", "!", "0", "0.0", "!"]


def test_booleans_have_the_cards_words() -> None:
    assert declared(["true", "FALSE", "yes"], type="boolean") == ["true", "false", "!"]
    assert declared(["Y", "n", "true", None], type="boolean", true=["y"], false=["n"]) == ["true", "false", "!", None]
    assert declared(["true"], Kind.BOOLEAN, type="boolean", true=["y"], false=["n"]) == ["true"]
    assert declared(["1", "0"], Kind.INTEGER, type="boolean", true=["1"], false=["0"]) == ["true", "false"]


def test_dates_have_the_cards_format_or_iso_8601() -> None:
    texts: list[str | None] = ["3/13/20", "2020-03-14", "2020-03-15T00:00:00", "2020-03-15T01:00:00", "14.3.20", None]
    assert declared(texts, type="date", format="%m/%d/%y") == ["2020-03-13", "2020-03-14", "2020-03-15", "!", "!", None]
    assert declared(["13.03.2020"], format="%d.%m.%Y") == ["2020-03-13"]


def test_timestamps_have_the_cards_format_and_zone() -> None:
    assert declared(["3/13/20 22:22"], format="%m/%d/%y %H:%M") == ["2020-03-13 22:22:00"]
    assert declared(["2020-03-13T22:22:00", "2020-03-13", "2020-03-13T22:22:00Z"], type="timestamp") == [
        *("2020-03-13T22:22:00", "2020-03-13 00:00:00"),
        "!",
    ]
    zoned: list[str | None] = ["2020-03-13T22:22:00", "2020-03-13T22:22:00Z", "2020-03-13", "x", None]
    assert declared(zoned, timezone="Europe/Berlin") == [
        *("2020-03-13T22:22:00 Europe/Berlin", "2020-03-13T22:22:00Z", "2020-03-13 00:00:00 Europe/Berlin"),
        *("!", None),
    ]
    assert declared(["2020-03-13T22:22:00", "2020-03-13T22:22:00.123456789Z"], type="timestamptz") == [
        "!",
        "2020-03-13T22:22:00.123456789Z",
    ]
    assert declared(["13/Mar/2020:22:22:00 +0100"], format="%d/%b/%Y:%H:%M:%S %z") == ["2020-03-13 22:22:00+01:00"]


def test_text_takes_everything_and_documents_as_they_are_written() -> None:
    assert declared(["", " x ", None], type="text") == ["", " x ", None]
    assert declared(['{"a":1}', '"plain"', "7"], Kind.JSON, type="text") == ['{"a":1}', "plain", "7"]


def test_jsonb_gets_documents() -> None:
    assert declared(['{"a":1}', "[1]", "7"], Kind.JSON, type="jsonb") == ['{"a":1}', "[1]", "7"]
    assert declared(['say "hi"\n', "", None], Kind.STRING, type="jsonb") == ['"say \\"hi\\"\\n"', '""', None]
    assert declared(["plain", None], Kind.STRING, type="jsonb") == ['"plain"', None]
    assert declared(["1.50"], Kind.DECIMAL, type="jsonb") == ["1.50"]
    assert declared(["NaN", "1.5"], Kind.DOUBLE, type="jsonb") == ['"NaN"', "1.5"]
    assert declared(['{"a": 1}', "no json", ""], type="jsonb") == ['{"a": 1}', "!", None]


def test_documents_in_a_column_of_numbers_are_refused_and_scalars_fit() -> None:
    assert declared(['"7"', "8", '{"a":1}', "[7]"], Kind.JSON, type="bigint") == ["7", "8", "!", "!"]


def found(texts: list[str | None], kind: Kind, data_type: str) -> list[str | None]:
    """Prove texts against a type that was found, not declared."""
    proven = prove(pa.array(texts, pa.string()), kind, data_type, None)
    good = [True] * len(texts) if proven.good is None else proven.good.to_pylist()
    return [text if fine else "!" for text, fine in zip(proven.values.to_pylist(), good, strict=True)]


@pytest.mark.parametrize(
    ("kind", "text", "data_type", "fits"),
    [
        (Kind.UNTYPED, "7", "bigint", True),
        (Kind.UNTYPED, "007", "bigint", False),
        (Kind.STRING, "7", "bigint", False),
        (Kind.STRING, "true", "boolean", False),
        (Kind.STRING, "2024-01-01", "date", True),
        (Kind.INTEGER, "7", "numeric", True),
        (Kind.INTEGER, "7", "double precision", True),
        (Kind.INTEGER, "9007199254740993", "double precision", False),
        (Kind.DECIMAL, "7.5", "bigint", False),
        (Kind.DECIMAL, "7", "bigint", True),
        (Kind.DECIMAL, "0.1", "double precision", False),
        (Kind.DOUBLE, "0.1", "double precision", True),
        (Kind.DOUBLE, "1e+300", "numeric", True),
        (Kind.BOOLEAN, "true", "bigint", False),
        (Kind.BOOLEAN, "true", "text", True),
        (Kind.DATE, "2024-01-01", "timestamp", False),
        (Kind.TIMESTAMPTZ, "2024-01-01T00:00:00Z", "timestamptz", True),
        (Kind.JSON, '{"a":1}', "text", False),
        (Kind.JSON, '"a"', "text", True),
        (Kind.INTEGER, "7", "jsonb", True),
        (Kind.NULL, None, "bigint", True),
    ],
)
def test_a_found_type_loses_neither_digits_nor_the_sources_word(
    kind: Kind, text: str | None, data_type: str, fits: bool
) -> None:
    assert (found([text], kind, data_type) != ["!"]) == fits


def test_the_empty_text_is_null_where_the_type_has_no_empty_value() -> None:
    proven = prove(pa.array(["", "1", None], pa.string()), Kind.UNTYPED, "bigint", None)
    assert (proven.values.to_pylist(), proven.emptied) == ([None, "1", None], 1)
    assert found(["", "a"], Kind.UNTYPED, "text") == ["", "a"]
