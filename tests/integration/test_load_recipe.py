"""Recipes: raw tables hold clean rows, refused ones are in the quarantine with their place, nothing vanishes unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dagster_project.ingest import pipeline
from dagster_project.ingest.errors import CardError, DataRefusedError
from dagster_project.settings import Settings
from tests.integration.load_world import World

DIRTY = """Name,Born,Score,City,Junk
  Ann ,03.02.1999,5,BERLIN,x
Bob,n/a,,Paris,x
bob,N/A,7,paris,y
Carl,soon,8,Rome,x
,01.01.2000,1,Oslo,x
Dora,31.12.2001,-4,Bonn,x
Total,,17,,x
  Ann ,03.02.1999,5,Berlin,z
"""
RECIPE: dict[str, Any] = {
    "rename": {"Name": "name", "Born": "born", "Score": "score", "City": "city"},
    "keep": ["name", "born", "score", "city"],
    "trim": True,
    "lower": "city",
    "null": ["n/a"],
    "dates": {"born": "%d.%m.%Y"},
    "fill": {"score": "0", "kind": "person"},
    "drop_where": [{"field": "name", "one_of": ["Total"]}],
    "refuse_where": [{"field": "name", "empty": True}, {"field": "score", "below": 0}],
    "dedupe": True,
}


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def stream(**recipe: Any) -> dict[str, Any]:
    return {"name": "t", "files": ["t*"], "recipe": recipe, "expect": {"max_quarantined_rate": None}}


def test_raw_rows_are_clean_and_refused_ones_have_their_place(world: World) -> None:
    card = {**stream(**{**RECIPE, "keep": [*RECIPE["keep"], "kind"]}), "columns": {"born": {"type": "date"}}}
    done = world.load(card, DIRTY)
    assert world.rows("select name, born::text, score, city, kind from raw.src__t order by name, score") == [
        ("Ann", "1999-02-03", 5, "berlin", "person"),
        ("Bob", None, 0, "paris", "person"),
        ("bob", None, 7, "paris", "person"),
    ]
    assert (done.left_out, done.quarantined) == (2, 3)
    found = world.rows("select ordinal, code, message from raw._quarantine order by ordinal")
    assert [(ordinal, code) for ordinal, code, _ in found] == [(4, "type_mismatch"), (5, "recipe"), (6, "recipe")]
    assert found[2][2] == "the recipe refuses it: score below: 0.0"


def test_a_function_gets_a_frame_and_gives_one(world: World) -> None:
    done = world.load(stream(function="tests.integration.recipe_functions:tidy"), "a,b\n8,x\n9,y\n7,z\n6,\n")
    assert world.types()["half"] == "double precision"
    assert world.types()["even"] == "boolean"
    assert world.types()["day"] == "timestamp with time zone"
    assert world.rows("select a, b, half, even from raw.src__t order by a") == [(6, None, 3, True), (8, "x", 4, True)]
    assert (done.left_out, done.quarantined) == (1, 1)
    assert world.rows("select ordinal, message from raw._quarantine") == [(3, "7 is too much")]


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("tests.integration.recipe_functions:broken", DataRefusedError, "broken failed: KeyError"),
        ("tests.integration.recipe_functions:absent", CardError, "can't be found"),
        ("no.such.module:f", CardError, "can't be found"),
    ],
)
def test_a_function_that_fails_is_named(world: World, function: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        world.load(stream(function=function), "a\n1\n")


def test_a_replay_cleans_again_after_the_card_was_corrected(world: World) -> None:
    world.load(stream(refuse_where=[{"field": "a", "above": 1}]), "a\n1\n2\n")
    assert world.one("select count(*) from raw._quarantine where resolved_by is null") == 1
    pipeline.replay_source(world.card(stream(trim=True)), world.runtime)
    assert world.rows("select a from raw.src__t order by a") == [(1,), (2,)]
    assert world.one("select count(*) from raw._quarantine where resolved_by is null") == 0


def test_typed_sources_are_cleaned_too(world: World) -> None:
    text = '{"a": 1, "b": " X "}\n{"a": null, "b": null}\n{"a": 1, "b": " X "}\n'
    world.load(stream(trim=["b"], fill={"a": "5"}, dedupe=["a"]), text, name="t.jsonl")
    assert world.rows("select a, b from raw.src__t order by a") == [(1, "X"), (5, None)]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"drop_where": [{"field": "a"}]}, "which rows"),
        ({"function": "no colon"}, "module:name"),
        ({"trimm": True}, "trimm"),
    ],
)
def test_mistakes_of_a_recipe_are_found_while_the_card_is_read(world: World, recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        world.card(stream(**recipe))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"drop_where": [{"field": "a", "matches": "("}]}, "no regular expression"),
        ({"rename": {"a": "b"}}, "two fields"),
    ],
)
def test_mistakes_that_only_rows_show_are_the_cards(world: World, recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(CardError, match=said):
        world.load(stream(**recipe), "a,b\n1,2\n")
