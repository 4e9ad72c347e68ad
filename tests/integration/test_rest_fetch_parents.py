"""Streams that ask once per record of another: every parent once, whatever ended the fetch before."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_project.ingest.cards import RestApiSourceCard
from dagster_project.ingest.fetch.report import FetchFailed, FetchInterrupted
from dagster_project.ingest.fetch.run import fetch_sample
from tests.integration import rest_world
from tests.integration.rest_world import (
    Asked,
    HostileServer,
    Pages,
    Reply,
    World,
    json_reply,
    make_card,
)

PARENT = {"stream": "books", "field": "id", "placeholder": "book", "include": {"updated_at": "book_updated_at"}}


database, world, server = rest_world.database, rest_world.world, rest_world.server


class Shelf(Pages):
    """Books in pages, and two pages of reviews of each."""

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/books":
            return super().__call__(asked)
        book = int(asked.path.split("/")[2])
        following = f"{asked.path}?page=2" if asked.page == 1 else None
        return json_reply({"results": [{"id": 100 * book + asked.page}], "next": following})


@pytest.fixture
def api() -> Shelf:
    return Shelf(total=4)


def card(server: HostileServer, books: dict[str, Any] | None = None, **reviews: Any) -> RestApiSourceCard:
    child = {"name": "reviews", "path": "/books/{book}/reviews", "parent": PARENT, **reviews}
    return make_card(server.url, child, books or {})


def reviews_of(*books: int) -> list[int]:
    return [100 * book + page for book in books for page in (1, 2)]


CURSOR = {"cursor": {"field": "updated_at", "param": "updated_since"}}


def test_children_are_asked_for_once_per_parent_and_page(world: World, server: HostileServer) -> None:
    report = world.fetch(card(server))
    assert list(report.streams) == ["books", "reviews"], "parents first"
    assert world.ids("reviews") == reviews_of(1, 2, 3, 4)
    first = world.landed("reviews")[0]
    assert (first.meta["scope"], first.meta["parent"]) == ("1", {"book_updated_at": "2024-01-01T00:00:00Z"})
    (batch,) = world.batches("reviews")
    assert batch.stats["complete"] is True
    assert batch.cursor_proposed == {"parent_batch": world.batches("books")[0].batch_id}


def test_a_parent_is_fetched_even_if_only_its_child_was_asked_for(world: World, server: HostileServer) -> None:
    report = world.fetch(card(server), streams=["reviews"])
    assert set(report.streams) == {"books", "reviews"}
    assert world.ids("reviews") == reviews_of(1, 2, 3, 4)


def test_a_full_pass_of_parents_is_a_full_pass_of_children(world: World, server: HostileServer) -> None:
    for _ in range(2):
        world.fetch(card(server))
        assert world.ids("reviews") == reviews_of(1, 2, 3, 4)
    assert len(world.batches("reviews")) == 2


def test_only_children_of_new_parents_are_asked_for(world: World, server: HostileServer, api: Shelf) -> None:
    world.fetch(card(server, CURSOR))
    api.total = 6
    world.fetch(card(server, CURSOR))
    assert world.ids("reviews") == reviews_of(5, 6)
    assert world.batches("reviews")[-1].stats["complete"] is False
    world.fetch(card(server, CURSOR))
    assert world.ids("reviews") == []
    newest = world.batches("books")[-1].batch_id
    assert world.batches("reviews")[-1].cursor_proposed == {"parent_batch": newest}
    world.fetch(card(server, CURSOR), full_refresh=True)
    assert world.ids("reviews") == reviews_of(1, 2, 3, 4, 5, 6)
    assert world.batches("reviews")[-1].stats["complete"] is True


def test_parents_that_were_fetched_alone_are_caught_up_with(world: World, server: HostileServer, api: Shelf) -> None:
    both = card(server, CURSOR)
    world.fetch(both)
    for total in (5, 6):
        api.total = total
        world.fetch(both, streams=["books"])
    world.fetch(both)
    assert world.ids("reviews") == reviews_of(5, 6)


def test_a_parent_that_comes_twice_is_asked_for_once(world: World, server: HostileServer) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/books":
            return json_reply({"results": [{"id": 1}, {"id": 2}, {"id": 1}, {"id": None}, {}], "next": None})
        return json_reply({"results": [{"id": 7}], "next": None})

    server.answer = answer
    report = world.fetch(card(server))
    assert server.targets == ["/books", "/books/1/reviews", "/books/2/reviews"]
    assert report.streams["reviews"].warnings == ["2 records of 'books' have no `id`: nothing was asked for them"]


@pytest.mark.parametrize(
    ("value", "path"),
    [("a/b ?#%", "/books/a%2Fb%20%3F%23%25/reviews"), ("ü", "/books/%C3%BC/reviews"), (1.5, "/books/1.5/reviews")],
)
def test_a_parents_value_stays_one_part_of_the_path(world: World, server: HostileServer, value: Any, path: str) -> None:
    server.answer = lambda a: json_reply({"results": [{"id": value}] if a.target == "/books" else [], "next": None})
    world.fetch(card(server))
    assert server.targets == ["/books", path]


def test_a_parents_value_may_go_into_a_parameter(world: World, server: HostileServer) -> None:
    server.answer = lambda a: json_reply({"results": [{"id": "a&b"}] if a.path == "/books" else [], "next": None})
    world.fetch(card(server, path="/reviews", params={"of": "book:{book}"}))
    assert server.asked[-1].query == {"of": "book:a&b"}


@pytest.mark.parametrize(
    ("value", "said"), [("..", "which no URL can hold"), ([1], "a text or a number"), (True, "a text or")]
)
def test_a_parents_value_that_is_none_fails(world: World, server: HostileServer, value: Any, said: str) -> None:
    server.answer = lambda _: json_reply({"results": [{"id": value}], "next": None})
    with pytest.raises(FetchFailed, match=said):
        world.fetch(card(server))


def test_a_parent_without_children_may_say_so(world: World, server: HostileServer, api: Shelf) -> None:
    server.answer = lambda a: Reply(404) if a.path in {"/books/2/reviews", "/books/4/reviews"} else api(a)
    report = world.fetch(card(server, not_found="ignore"))
    assert world.ids("reviews") == reviews_of(1, 3)
    assert report.streams["reviews"].not_found == 2
    assert world.batches("reviews")[-1].stats["complete"] is True


def test_the_same_answer_for_two_parents_is_no_circle(world: World, server: HostileServer, api: Shelf) -> None:
    same = json_reply({"results": [{"id": 7}], "next": None})
    server.answer = lambda a: api(a) if a.path == "/books" else same
    report = world.fetch(card(server))
    assert report.streams["reviews"].objects == 4
    assert report.streams["reviews"].unchanged == 3, "kept once"


def test_a_failed_parent_is_its_childrens_failure(world: World, server: HostileServer) -> None:
    server.answer = lambda _: Reply(404)
    with pytest.raises(FetchFailed, match=r"test\.reviews: its parent 'books' failed"):
        world.fetch(card(server))
    server.answer = lambda _: Reply(500)
    with pytest.raises(FetchInterrupted, match="its parent 'books' failed"):
        world.fetch(card(server))


@pytest.mark.parametrize("at", range(12))
def test_a_killed_fetch_goes_on_with_its_children(world: World, server: HostileServer, at: int) -> None:
    """Killed ahead of its n-th request; the parents aren't asked for again where they were sealed."""

    class Killed(BaseException):
        pass

    count = 0

    def kill(stage: str) -> None:
        nonlocal count
        count += stage == "fetch"
        if count == at + 1:
            raise Killed

    world.checkpoint = kill
    if at < 10:
        with pytest.raises(Killed):
            world.fetch(card(server))
        world.checkpoint = lambda _stage: None
    world.fetch(card(server))
    assert world.ids() == [1, 2, 3, 4]
    assert world.ids("reviews") == reviews_of(1, 2, 3, 4)
    assert len(world.batches()) == len(world.batches("reviews")) == 1
    # 2 pages of books, 4 x 2 of reviews: nothing was asked for twice.
    assert len(server.targets) == len(set(server.targets)) == 10


def test_a_failing_child_doesnt_hold_its_parent_back(world: World, server: HostileServer, api: Shelf) -> None:
    server.answer = lambda a: Reply(500) if a.path == "/books/2/reviews" else api(a)
    both = card(server, CURSOR)
    for total in (4, 5):
        api.total = total
        with pytest.raises(FetchInterrupted):
            world.fetch(both)
    assert [len(world.ids("books", n)) for n in range(2)] == [4, 1]
    server.answer = api
    world.fetch(both)
    assert world.ids("reviews", 0) == reviews_of(1, 2, 3, 4)
    assert world.ids("reviews", 1) == reviews_of(5), "what came meanwhile is a batch of its own"


def test_grandchildren(world: World, server: HostileServer, api: Shelf) -> None:
    api.total = 2
    grandparent = {"stream": "reviews", "field": "id", "placeholder": "review"}
    plain = {"name": "votes", "path": "/reviews/{review}/votes", "parent": grandparent}
    server.answer = lambda a: (
        json_reply({"results": [{"id": a.path}], "next": None}) if a.path.startswith("/reviews") else api(a)
    )
    child = {"name": "reviews", "path": "/books/{book}/reviews", "parent": PARENT}
    world.fetch(make_card(server.url, plain, child, {}))
    asked = [document["results"][0]["id"] for document in world.documents("votes")]
    assert asked == [f"/reviews/{review}/votes" for review in reviews_of(1, 2)]


def test_a_sample_of_children_fetches_a_sample_of_parents(world: World, server: HostileServer) -> None:
    with fetch_sample(card(server), world.runtime, "reviews", 3) as sample:
        assert [landed.meta["scope"] for landed in sample.objects] == ["1", "1", "2"]
    assert server.targets[:2] == ["/books", "/books/1/reviews"]
    assert len(server.targets) == 4
