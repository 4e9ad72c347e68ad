"""A card whose path to the next page leads nowhere: one page is read, said so, and not taken for the whole source."""

from __future__ import annotations

import pytest

from dagster_project.ingest.cards import RestApiSourceCard
from dagster_project.ingest.pipeline import look, run_source
from tests.integration import rest_world
from tests.integration.rest_world import FAST, Asked, HostileServer, Pages, Reply, World, json_reply, make_card

database, world, api, server = rest_world.database, rest_world.world, rest_world.api, rest_world.server

WRONG = {"type": "json_link", "next_url_path": "links.next"}
SAID = (
    "no URL at `links.next` on page 1, so that only this page was read; the answer has the keys [count, next, results]."
    " Correct `next_url_path`, or say `absent: end` in `paginator` where the source leaves it out on its last page"
)


def test_it_is_said_and_the_fetch_is_not_complete(world: World, server: HostileServer) -> None:
    report = world.fetch(make_card(server.url, {"paginator": WRONG}))
    assert report.streams["books"].warnings == [SAID]
    (batch,) = world.batches()
    assert (world.ids(), batch.stats["complete"]) == ([1, 2, 3], False)


def test_a_source_that_renames_its_path_deletes_nothing(world: World, server: HostileServer) -> None:
    good = make_card(server.url, {"missing": "delete"})
    run_source(good, world.runtime)
    bad = make_card(server.url, {"missing": "delete", "paginator": WRONG})
    load = run_source(bad, world.runtime).load.streams["books"]
    assert (load.deleted, world.sql("select count(*) from raw.test__books")) == (0, [(10,)])


def test_a_cursor_does_not_pass_what_was_not_read(world: World, server: HostileServer, api: Pages) -> None:
    api.updated = lambda n: f"2024-01-{31 - n:02d}T00:00:00Z"  # newest first
    card = make_card(server.url, {"paginator": WRONG, "cursor": {"field": "updated_at", "param": "updated_since"}})
    world.fetch(card)
    assert world.batches()[-1].cursor_proposed is None


@pytest.mark.parametrize("reviews_of_2", [2, 3])
def test_children_that_fit_one_page_are_fine_where_another_has_two(
    world: World, server: HostileServer, reviews_of_2: int
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/books":
            return json_reply({"results": [{"id": 1}, {"id": 2}], "next": None})
        count = reviews_of_2 if asked.path == "/books/2/reviews" else 1
        records = [{"id": f"{asked.path}#{n}"} for n in range(count)]
        more = {"next": f"{asked.path}?page=2"} if count > 2 and asked.page == 1 else {}
        return json_reply({"results": records[2:] if asked.page == 2 else records[:2], **more})

    server.answer = answer
    child = {
        "name": "reviews",
        "path": "/books/{book}/reviews",
        "parent": {"stream": "books", "field": "id", "placeholder": "book"},
    }
    report = world.fetch(make_card(server.url, {}, child))
    warned = len(report.streams["reviews"].warnings)
    assert (warned, world.batches("reviews")[-1].stats["complete"]) == ((1, False) if reviews_of_2 == 2 else (0, True))


def test_the_doubt_outlives_an_interruption(world: World, server: HostileServer) -> None:
    class Killed(BaseException):
        pass

    def kill(stage: str) -> None:
        if stage == "landed":
            raise Killed

    world.checkpoint = kill
    card = make_card(server.url, {"paginator": WRONG})
    with pytest.raises(Killed):
        world.fetch(card)
    world.checkpoint = lambda _stage: None
    report = world.fetch(card)
    assert (report.streams["books"].resumed, report.streams["books"].warnings) == (True, [SAID])
    assert world.batches()[-1].stats["complete"] is False


def test_a_total_that_was_promised_and_not_given_is_not_everything(world: World, server: HostileServer) -> None:
    def answer(asked: Asked) -> Reply:
        return json_reply({"total": 9, "results": [{"id": 1}] if asked.query["offset"] == "0" else []})

    server.answer = answer
    card = make_card(server.url, {"paginator": {"type": "offset", "limit": 5, "total_path": "total"}})
    assert "promised 9 records" in world.fetch(card).streams["books"].warnings[0]
    assert world.batches()[-1].stats["complete"] is False


def test_a_forgotten_paginator_is_told_in_a_run_and_in_a_preview(world: World, server: HostileServer) -> None:
    stream = {"name": "books", "path": "/books"}
    card = RestApiSourceCard.model_validate({"source": "test", "base_url": server.url, **FAST, "streams": [stream]})
    records, pages = world.fetch(card).streams["books"].warnings
    assert "a list of 3 objects at `results`" in records
    assert "there is a link at `next`: say `paginator: {type: json_link, next_url_path: next}`" in pages
    assert look(card, world.runtime, "books").warnings == [records, pages]
