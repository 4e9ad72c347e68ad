"""What fields are called in Postgres: readable, short enough, and never shared by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.ingest.load.names import MAX_BYTES, RESERVED, column_name, distinct_column_name, quoted


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("userName", "user_name"),
        ("user_name", "user_name"),
        ("User Name", "user_name"),
        ("HTTPServer", "http_server"),
        ("Country/Region", "country_region"),
        ("Long_", "long_"),
        ("price (£)", "price"),
        ("ISBN13", "isbn13"),
        ("日本", "日本"),
        ("价格", "价格"),
        ("हिन्दी", "हिन्दी"),
        ("ﬁne", "fine"),
        ("2020", "_2020"),
        ("", "column"),
        ("!!!", "column"),
        ("_load_id", "_load_id_"),
        ("CTID", "ctid_"),
        ("tableoid", "tableoid_"),
        ("select", "select"),
    ],
)
def test_a_name_is_made_fit(source: str, column: str) -> None:
    assert column_name(source) == column


def test_long_names_that_begin_alike_stay_apart() -> None:
    one, other = "x" * 70 + "a", "x" * 70 + "b"
    assert column_name(one) != column_name(other)
    assert len(column_name(one).encode()) == MAX_BYTES
    assert column_name("é" * 60).encode().decode()


def test_fields_that_come_to_one_name_get_columns_of_their_own_in_the_order_of_appearance() -> None:
    taken: list[str] = []
    for field in ("userName", "user_name", "User Name", "user_name_2"):
        taken.append(distinct_column_name(field, taken))
    assert taken == ["user_name", "user_name_2", "user_name_3", "user_name_2_2"]


def test_a_suffix_never_makes_a_name_too_long() -> None:
    name = "x" * 63
    second = distinct_column_name(name, {name})
    assert second == "x" * 61 + "_2"


@given(st.lists(st.text(max_size=90), unique=True, max_size=12))
def test_any_names_get_distinct_columns_that_postgres_can_have(fields: list[str]) -> None:
    taken: set[str] = set()
    for field in fields:
        name = distinct_column_name(field, taken)
        assert name not in taken
        assert 0 < len(name.encode()) <= MAX_BYTES
        assert name not in RESERVED
        assert "\0" not in name
        taken.add(name)


@given(st.text(max_size=60))
def test_a_column_name_stays_what_it_is(field: str) -> None:
    name = column_name(field)
    if len(name.encode()) < MAX_BYTES and name.strip("_") and not name.endswith("_"):
        assert column_name(name) == name


def test_identifiers_are_quoted() -> None:
    assert quoted("raw", 'a"b') == '"raw"."a""b"'
    with pytest.raises(ValueError, match="NUL"):
        quoted("a\0b")
