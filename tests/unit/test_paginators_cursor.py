"""Cursors: where the next fetch starts, as the source wrote it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from dagster_project.ingest.cards.base import Cursor
from dagster_project.ingest.errors import CardError
from dagster_project.ingest.fetch.cursor import CursorTrack, key_of, look_back


def track(start: Any = None, state: Any = None, **fields: Any) -> CursorTrack:
    card = Cursor.model_validate({"field": "at", "param": "since", **fields})
    return CursorTrack(card, None if start is None else {"field": "at", "value": start}, state)


def at(*values: Any) -> list[Any]:
    return [{"at": value} for value in values]


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        (["2024-01-02T00:00:00Z", "2024-01-01T23:59:59Z"], "2024-01-02T00:00:00Z"),
        (["2024-01-01T12:00:00+02:00", "2024-01-01T11:00:00Z"], "2024-01-01T11:00:00Z"),
        (["2024-01-01T00:00:00.5Z", "2024-01-01T00:00:00Z"], "2024-01-01T00:00:00.5Z"),
        (["2024-02-01", "2024-01-31"], "2024-02-01"),
        ([9, 10, 2], 10),
        (["9", "10", "2"], "10"),
        ([Decimal("1.5"), 1], "1.5"),
        ([2**70, 5], 2**70),
        (["b", "a"], "b"),
        ([None, "", True, [], {}, "2024-01-01"], "2024-01-01"),
        (["2024-01-01", "n/a", "unknown"], "2024-01-01"),
        ([None], None),
        ([], None),
    ],
)
def test_the_largest_value_is_proposed_as_it_was_written(values: list[Any], largest: Any) -> None:
    cursor = track()
    cursor.see(at(*values))
    proposed = cursor.proposed()
    assert proposed == (None if largest is None else {"field": "at", "value": largest})
    assert json.loads(json.dumps(proposed)) == proposed


def test_a_fetch_that_finds_nothing_keeps_the_cursor() -> None:
    cursor = track("2024-01-01")
    cursor.see(at("2023-05-05", None))
    assert cursor.proposed() == {"field": "at", "value": "2024-01-01"}


def test_a_cursor_of_another_field_says_nothing() -> None:
    card = Cursor(field="at", initial="2020-01-01")
    assert CursorTrack(card, {"field": "id", "value": 7}).begin == "2020-01-01"
    assert CursorTrack(card, "2024-01-01").begin == "2024-01-01", "set by hand"


def test_the_field_may_be_a_path() -> None:
    cursor = track(field="meta.changed")
    cursor.see([{"meta": {"changed": 3}}, {"meta": None}, {}, 7])
    assert cursor.proposed() == {"field": "meta.changed", "value": 3}
    assert cursor.seen == 1


@pytest.mark.parametrize(
    ("value", "seconds", "earlier"),
    [
        ("2024-03-01T00:30:00Z", 3600, "2024-02-29T23:30:00Z"),
        ("2024-03-01 00:30:00", 86400, "2024-02-29 00:30:00"),
        ("2024-03-01T00:30:00.123456789+05:30", 60, "2024-03-01T00:29:00.123456789+05:30"),
        ("2024-03-01T00:30", 60, "2024-03-01T00:29"),
        ("2024-03-01", 1, "2024-02-29"),
        ("2024-03-01", 86400, "2024-02-29"),
        ("2024-03-01", 90000, "2024-02-28"),
        ("0001-01-01", 86400, "0001-01-01"),
    ],
)
def test_looking_back_keeps_the_writing(value: str, seconds: float, earlier: str) -> None:
    assert look_back(value, seconds) == earlier


@pytest.mark.parametrize("value", [7, "7", "abc", "2024-W01-1", "2024-13-01"])
def test_looking_back_from_what_is_no_time_is_the_cards_mistake(value: Any) -> None:
    with pytest.raises(CardError, match=r"leave `lookback` out"):
        track(value, lookback="1d")


def test_lookback_moves_the_beginning_not_the_proposal() -> None:
    cursor = track("2024-01-10", lookback="2d", initial="2020-01-01")
    assert (cursor.begin, cursor.start) == ("2024-01-08", "2024-01-10")
    cursor.see(at("2024-01-09"))
    assert cursor.proposed() == {"field": "at", "value": "2024-01-10"}
    assert track(lookback="2d", initial="2020-01-01").begin == "2020-01-01"


def test_records_at_or_below_are_old() -> None:
    cursor = track(10, param=None)
    assert cursor.drops_old
    assert cursor.see(at(9, 10, 11, None, "x")) == 3


def test_a_cut_fetch_moves_on_only_in_the_cursors_order() -> None:
    ascending = track(1)
    ascending.see(at(2, 2, 5))
    assert ascending.proposed(cut=True) == {"field": "at", "value": 5}
    assert ascending.proposed(cut=True, limited=True) == {"field": "at", "value": 1}
    mixed = track(1)
    mixed.see(at(5, 2))
    assert mixed.proposed(cut=True) == {"field": "at", "value": 1}
    assert mixed.proposed() == {"field": "at", "value": 5}


def test_the_state_goes_through_json_into_another_process() -> None:
    first = track("2024-01-01")
    first.see(at("2024-01-05", "2024-01-03"))
    second = track("2024-01-01", json.loads(json.dumps(first.state())))
    second.see(at("2024-01-04"))
    assert second.proposed() == {"field": "at", "value": "2024-01-05"}
    assert second.proposed(cut=True) == {"field": "at", "value": "2024-01-01"}
    assert second.seen == 3


def test_what_cant_be_compared_is_no_key() -> None:
    assert key_of(Decimal("NaN")) is None
    assert key_of(True) is None
    assert key_of("007") == key_of(7)
