"""A preview tells what a load would do: which rows it would refuse and why, and names of the card that lead nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_project.cli.cards import records_table
from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import RestApiSourceCard, WebSourceCard
from dagster_project.ingest.errors import SourceError
from dagster_project.settings import Settings
from tests.integration.load_world import World

SALES = 'id,betrag,ok\n1,"12,50",true\n2,"1.234,50",\n,abc,true\n4,"3,00 €",false\n5,a,b,c\n'


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def test_what_it_says_is_what_a_load_refuses(world: World) -> None:
    world.write("sales.csv", SALES)
    stream: dict[str, Any] = {
        "name": "sales",
        "primary_key": "id",
        "write": "merge",
        "columns": {"betrag": {"type": "numeric", "decimal": ","}, "ok": {"required": True}},
        "expect": {"max_quarantined_rate": 1},
    }
    card = world.card(stream)
    found = pipeline.look(card, world.runtime, "sales", 10)
    assert sorted(found.misfits) == [1, 2, 3]
    load = pipeline.run_source(card, world.runtime).load.streams["sales"]
    assert (found.refused, len(found.rows) + len(found.unread)) == (load.quarantined, load.rows_read)
    messages = {misfit.message for misfits in found.misfits.values() for misfit in misfits[:1]}
    assert messages <= {row[0] for row in world.rows("select message from raw._quarantine")}


def test_marks_stand_at_the_values(world: World) -> None:
    world.write("sales.csv", SALES)
    card = world.card({"name": "sales", "columns": {"betrag": {"type": "numeric", "decimal": ","}}})
    found = pipeline.look(card, world.runtime, "sales", 10)
    lines = records_table(found).splitlines()
    assert "betrag  numeric  12.50" in lines
    assert "betrag  numeric  abc   ✗ 'abc' is no numeric, as betrag is declared" in lines
    assert found.types == {"id": "bigint", "betrag": "numeric", "ok": "boolean"}


def test_rows_beyond_the_limit_are_not_judged(world: World) -> None:
    world.write("sales.csv", "betrag\n1\nx\n")
    card = world.card({"name": "sales", "columns": {"betrag": {"type": "numeric"}}})
    assert pipeline.look(card, world.runtime, "sales", 1).refused == 0


def test_names_that_are_in_no_row_are_told(world: World) -> None:
    world.write("t.csv", "Reading ID,When,Note\n1,2024-01-01,x\n")
    card = world.card(
        {
            "name": "t",
            "primary_key": "Reading Id",
            "newest_by": "when",
            "write": "merge",
            "columns": {"Notes": {"type": "text"}, "When": {"type": "date"}},
            "ignore": ["note", "zzz"],
        }
    )
    found = pipeline.look(card, world.runtime, "t", 5)
    assert found.warnings == [
        "`primary_key`: 'Reading Id' is in none of the rows: every row would be refused; did you mean 'Reading ID'?",
        "`newest_by`: 'when' is in none of the rows; did you mean 'When'?",
        "`columns`: 'Notes' is in none of the rows; did you mean 'Note'?",
        "`ignore`: 'note' is in none of the rows; did you mean 'Note'?",
        "`ignore`: 'zzz' is in none of the rows",
    ]
    assert found.refused == 1


def test_ignored_fields_that_are_there_are_fine(world: World) -> None:
    world.write("t.csv", "a,b\n1,2\n")
    found = pipeline.look(world.card({"name": "t", "ignore": ["b"]}), world.runtime, "t", 5)
    assert (found.rows, found.warnings) == ([{"a": 1}], [])


def test_a_source_without_rows_says_nothing_of_names(world: World) -> None:
    card = world.card({"name": "t", "primary_key": "id"})
    found = pipeline.look(card, world.runtime, "t", 5)
    assert (found.rows, found.refused) == ([], 0)
    assert not [warning for warning in found.warnings if "primary_key" in warning]


@pytest.mark.parametrize("where", ["primary_key", "newest_by", "columns", "ignore"])
def test_a_page_has_the_fields_that_its_card_names(where: str) -> None:
    stream = {
        "name": "t",
        "page": "start",
        "primary_key": "url",
        "write": "merge",
        "fields": {"url": {"from_page": "url"}, "title": {"css": "h1"}},
    }
    fields = {"source": "s", "base_url": "http://x", "start": ["/"], "pages": {"start": {}}}
    WebSourceCard.model_validate({**fields, "streams": [stream]})
    wrong: Any = {"titel": {"type": "text"}} if where == "columns" else ["titel"]
    with pytest.raises(ValueError, match=rf"{where}.*'titel'.*did you mean 'title'"):
        WebSourceCard.model_validate({**fields, "streams": [{**stream, where: wrong}]})


def test_a_source_that_does_not_run_is_asked_after(world: World) -> None:
    stream = {"name": "t", "path": "/t"}
    card = RestApiSourceCard.model_validate(
        {"source": "s", "base_url": "http://127.0.0.1:9", "http_retry": {"attempts": 1}, "streams": [stream]}
    )
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9/t: no answer: is it running \(see `base_url`.*refused"):
        pipeline.look(card, world.runtime, "t", 1)
