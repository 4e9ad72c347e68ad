"""What a card of uploads may not say: outputs that are inputs, shares without order, prefixes that never match."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.ingest.cards.output import ring


def card(stream: dict[str, Any] | None = None, **rest: Any) -> FileSourceCard:
    found = {"name": "t", "prefix": "t", **(stream or {})}
    return FileSourceCard.model_validate({"source": "src", "path": "s3://uploads/in", "streams": [found], **rest})


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ("s3://uploads/in", "s3://uploads/in"),
        ("s3://uploads/in", "s3://uploads/in/processed"),
        ("s3://uploads", "s3://uploads/out"),
        ("s3://uploads/out/src__t", "s3://uploads/out"),
        ("s3://uploads/out/src__t/load=1", "s3://uploads/out"),
        ("drop", "drop/out"),
        ("drop/../drop", "drop"),
    ],
)
def test_an_output_that_is_an_input_is_refused_with_the_card(path: str, output: str) -> None:
    with pytest.raises(ValidationError, match="lies where the source reads"):
        card(path=path, output={"path": output})


@pytest.mark.parametrize(
    ("path", "output"), [("s3://uploads/in", "s3://uploads/out"), ("s3://uploads/in", "s3://uploads/in2")]
)
def test_a_sibling_is_no_input(path: str, output: str) -> None:
    card(path=path, output={"path": output})


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"a": ("s3://xxx/in", "s3://yyy"), "b": ("s3://yyy", "s3://zzz")}, None),
        ({"a": ("s3://xxx/in", "s3://yyy"), "b": ("s3://yyy", "s3://xxx/in/b")}, "output of a, b is read"),
        ({"a": ("s3://xxx", "s3://yyy"), "b": ("s3://yyy", "s3://zzz"), "c": ("s3://zzz", "s3://xxx")}, "in a ring"),
        ({"a": ("s3://xxx", "s3://yyy"), "b": ("s3://yyy", "s3://yyy/b")}, "output of b is read"),
    ],
)
def test_outputs_that_feed_each_other_in_a_ring_are_told(outputs: dict[str, tuple[str, str]], said: str | None) -> None:
    told = ring(outputs, {source: [f"{source}__t"] for source in outputs})
    assert (told is None) if said is None else (told is not None and said in told)


@pytest.mark.parametrize(
    ("stream", "right"),
    [
        ({"write": "append"}, True),
        ({"write": "merge", "primary_key": "a", "newest_by": "b"}, True),
        ({"write": "merge", "primary_key": "a"}, False),
        ({"write": "merge", "primary_key": "a", "newest_by": "b", "missing": "delete"}, False),
        ({"write": "replace"}, False),
    ],
)
def test_tasks_are_refused_where_files_have_an_order(stream: dict[str, Any], right: bool) -> None:
    if right:
        card(stream, tasks=2)
        return
    with pytest.raises(ValidationError, match="side by side, in no order"):
        card(stream, tasks=2)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ({"prefix": "/t"}, "never begins with a slash"),
        ({"prefix": None}, "which files"),
        ({"files": ["t*"]}, "not both"),
    ],
)
def test_files_are_named_one_way_that_can_match(stream: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        card(stream)


def test_prefix_and_suffix_are_patterns_that_take_special_characters_as_they_are() -> None:
    found = card({"prefix": "a[1]*/", "suffix": [".csv", ".csv.gz"]}).streams[0].patterns
    assert found == ["a[[]1][*]/**.csv", "a[[]1][*]/**.csv.gz"]
