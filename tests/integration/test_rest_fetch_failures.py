"""What failures of a source, of the database, of the archive leave: words, and a batch to go on with."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

from dagster_project.ingest.errors import DatabaseError, LandingError, TransientSourceError
from dagster_project.ingest.fetch import rest_stream
from dagster_project.ingest.fetch.report import FetchFailed, FetchInterrupted
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

database, world, api, server = rest_world.database, rest_world.world, rest_world.api, rest_world.server


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(
            lambda a: json_reply({"results": [{"id": a.page}], "next": "/books?page=2"}),
            "pages lead in a circle",
            id="next to itself",
        ),
        pytest.param(
            lambda a: json_reply({"results": [{"id": a.page}], "next": f"/books?page={a.page % 3 + 1}"}),
            "the same records as page 1",
            id="next in a circle",
        ),
        pytest.param(
            lambda a: json_reply({"results": [{"id": 1}], "time": len(str(a)), "next": f"/books?page={a.page + 1}"}),
            "the same records as page 1",
            id="page ignored",
        ),
        pytest.param(
            lambda a: json_reply({"results": [{"id": min(a.page, 3)}], "next": f"/books?page={a.page + 1}"}),
            "the same records as page 3",
            id="last page for ever",
        ),
        pytest.param(
            lambda a: json_reply({"results": [{"id": a.page}], "next": "http://127.0.0.1:1/books"}),
            "add it to `allowed_hosts`",
            id="next on another host",
        ),
        pytest.param(
            lambda a: json_reply({"results": [{"id": a.page}], "next": "file:///etc/passwd"}),
            "only http:// and https://",
            id="next is a file",
        ),
        pytest.param(lambda _: Reply(200, b"<html>Log in", {"Content-Type": "text/html"}), "HTML page", id="HTML"),
        pytest.param(lambda _: json_reply({"detail": "gone"}), r"keys \['detail'\]", id="no records"),
        pytest.param(lambda _: Reply(403, b"no"), "answered 403: access is refused", id="403"),
        pytest.param(lambda _: Reply(404), "answered 404: nothing is there", id="404"),
    ],
)
def test_a_wrong_source_fails_for_good_and_in_words(
    world: World, server: HostileServer, answer: Any, said: str
) -> None:
    server.answer = answer
    with pytest.raises(FetchFailed, match=said) as caught:
        world.fetch(make_card(server.url))
    assert len(server.asked) <= 4
    assert str(caught.value).startswith("test.books: ")
    report = caught.value.report
    assert report.streams["books"].error is not None
    assert not report.streams["books"].sealed
    assert world.batches() == []
    assert world.sql("select status, error from bindery.batches") == [("open", report.streams["books"].error)]


def test_empty_pages_without_an_end_are_given_up_and_more_may_be_allowed(world: World, server: HostileServer) -> None:
    """A source that has nothing, and always a next page; or one that has a long gap before its last record."""

    def answer(asked: Asked) -> Reply:
        records = [{"id": asked.page}] if asked.page in {1, 150} else []
        return json_reply({"results": records, "next": f"/books?page={asked.page + 1}" if asked.page < 150 else None})

    server.answer = answer
    with pytest.raises(
        FetchFailed, match=r"100 pages one after another have no records.*page=102 would.*max_empty_pages"
    ):
        world.fetch(make_card(server.url))
    assert len(server.asked) == 101
    report = world.fetch(make_card(server.url, {"max_empty_pages": 200}))
    assert server.targets[101] == "/books?page=102", "what was read isn't asked for again"
    assert len(server.asked) == 150
    assert report.streams["books"].resumed
    assert world.ids() == [1, 150]


def test_a_few_empty_pages_are_a_gap(world: World, server: HostileServer) -> None:
    def answer(asked: Asked) -> Reply:
        records = [{"id": asked.page}] if asked.page % 4 == 0 else []
        return json_reply({"results": records, "next": f"/books?page={asked.page + 1}" if asked.page < 40 else None})

    server.answer = answer
    world.fetch(make_card(server.url, {"max_empty_pages": 4}))
    assert world.ids() == list(range(4, 41, 4))


def test_pages_have_a_limit_by_themselves_past_which_a_card_may_say_more(
    world: World, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_stream, "PAGES", 5)
    server.answer = lambda a: json_reply({"results": [{"id": a.page}], "next": f"/books?page={a.page + 1}"})
    for _ in range(2):
        with pytest.raises(FetchFailed, match=r"5 pages and no end: .*page=6 would be the next\. Set `max_pages`"):
            world.fetch(make_card(server.url))
        assert len(server.asked) == 5, "nothing more is asked for, nothing is read again"
    world.fetch(make_card(server.url, {"max_pages": 8}))
    assert server.targets[5:] == ["/books?page=6", "/books?page=7", "/books?page=8"]
    assert world.ids() == list(range(1, 9))


def test_the_limit_of_pages_is_of_each_parent(
    world: World, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_stream, "PAGES", 5)

    def answer(asked: Asked) -> Reply:
        more = asked.page < 4 and asked.path != "/books"
        return json_reply(
            {
                "results": [{"id": 2 * asked.page + n} for n in (1, 2)],
                "next": f"{asked.path}?page={asked.page + 1}" if more else None,
            }
        )

    server.answer = answer
    child = {
        "name": "notes",
        "path": "/books/{book}/notes",
        "parent": {"stream": "books", "field": "id", "placeholder": "book"},
    }
    world.fetch(make_card(server.url, {}, child))
    assert len(server.asked) == 1 + 2 * 4


def test_a_source_that_is_down_is_gone_on_with(world: World, server: HostileServer, api: Pages) -> None:
    down = True

    def answer(asked: Asked) -> Reply:
        return Reply(503) if down and asked.page == 3 else api(asked)

    server.answer = answer
    with pytest.raises(FetchInterrupted, match="answered 503 after 2 tries") as caught:
        world.fetch(make_card(server.url))
    assert caught.value.transient
    assert caught.value.report.streams["books"].objects == 2
    down = False
    before = len(server.asked)
    report = world.fetch(make_card(server.url))
    assert server.targets[before:] == ["/books?page=3", "/books?page=4"]
    assert report.streams["books"].resumed
    assert world.ids() == list(range(1, 11))
    assert len(world.batches()) == 1


def test_a_long_retry_after_leaves_the_batch_to_be_resumed(world: World, server: HostileServer, api: Pages) -> None:
    server.answer = lambda a: Reply(429, headers={"Retry-After": "9999"}) if a.page == 2 else api(a)
    with pytest.raises(FetchInterrupted, match="asks to wait until"):
        world.fetch(make_card(server.url))
    assert len(server.asked) == 2
    server.answer = api
    world.fetch(make_card(server.url))
    assert world.ids() == list(range(1, 11))


def test_the_guard_remembers_over_an_interruption(world: World, server: HostileServer) -> None:
    down = True

    def answer(asked: Asked) -> Reply:
        if down and asked.page == 3:
            return Reply(500)
        return json_reply({"results": [{"id": len(server.asked)}], "next": f"/books?page={asked.page % 3 + 1}"})

    server.answer = answer
    with pytest.raises(FetchInterrupted):
        world.fetch(make_card(server.url, {"params": {"page": 1}}))
    down = False
    with pytest.raises(FetchFailed, match=r"page=1 was read already.*in a circle"):
        world.fetch(make_card(server.url, {"params": {"page": 1}}))


def test_a_place_that_is_gone_is_left_for_the_beginning(world: World, server: HostileServer, api: Pages) -> None:
    """Tokens for pages end: what was interrupted long ago can't be gone on with, and must not fail for ever."""
    server.answer = lambda a: Reply(500) if a.page == 3 else api(a)
    with pytest.raises(FetchInterrupted):
        world.fetch(make_card(server.url))
    stale = True

    def answer(asked: Asked) -> Reply:
        nonlocal stale
        if asked.page == 3 and stale:
            stale = False
            return json_reply({"error": "this token has ended"}, 400)
        return api(asked)

    server.answer = answer
    report = world.fetch(make_card(server.url))
    assert world.ids() == list(range(1, 11))
    assert "is read from its start" in report.streams["books"].warnings[0]
    assert not report.streams["books"].resumed
    assert world.sql("select status from bindery.batches order by batch_id") == [("abandoned",), ("sealed",)]


def test_credentials_that_ended_dont_cost_the_batch(world: World, server: HostileServer, api: Pages) -> None:
    server.answer = lambda a: Reply(401) if a.page == 3 else api(a)
    for _ in range(2):
        with pytest.raises(FetchFailed, match="credentials"):
            world.fetch(make_card(server.url))
    server.answer = api
    world.fetch(make_card(server.url))
    assert world.ids() == list(range(1, 11))
    assert [a.page for a in server.asked] == [1, 2, 3, 3, 3, 4]


def test_a_changed_card_begins_anew(world: World, server: HostileServer, api: Pages) -> None:
    server.answer = lambda a: Reply(500) if a.page == 2 else api(a)
    with pytest.raises(FetchInterrupted):
        world.fetch(make_card(server.url))
    server.answer = api
    report = world.fetch(make_card(server.url, {"params": {"lang": "en"}}))
    assert not report.streams["books"].resumed
    assert world.ids() == list(range(1, 11))


def test_one_streams_failure_leaves_the_others(world: World, server: HostileServer, api: Pages) -> None:
    server.answer = lambda a: Reply(404) if a.path == "/bad" else api(a)
    card = make_card(server.url, {"name": "bad", "path": "/bad"}, {}, {"name": "also", "path": "/also"})
    with pytest.raises(FetchFailed, match=r"test.bad: .*answered 404(.|\n)*fetched: books, also") as caught:
        world.fetch(card)
    sealed = {name: stream.sealed for name, stream in caught.value.report.streams.items()}
    assert sealed == {"bad": False, "books": True, "also": True}
    assert world.ids("also") == list(range(1, 11))


def test_a_second_fetch_waits_for_the_first(world: World, server: HostileServer, api: Pages) -> None:
    slow = threading.Event()

    def answer(asked: Asked) -> Reply:
        slow.wait(5)
        return api(asked)

    server.answer = answer
    card = make_card(server.url)
    done: list[Any] = []
    first = threading.Thread(target=lambda: done.append(world.fetch(card)))
    first.start()
    while not server.asked:
        time.sleep(0.01)
    with pytest.raises(TransientSourceError, match="another fetch of 'test' is under way"):
        world.fetch(card, lock_wait=0.2)
    second = threading.Thread(target=lambda: done.append(world.fetch(card, lock_wait=20)))
    second.start()
    slow.set()
    first.join()
    second.join()
    assert len(done) == 2
    assert len(world.batches()) == 2
    assert any("waiting for another fetch" in (p.message or "") for p in world.told)


def test_a_lost_connection_is_opened_once_more(world: World, server: HostileServer, api: Pages) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.page in {2, 4}:
            world.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        return api(asked)

    server.answer = answer
    world.fetch(make_card(server.url))
    assert world.ids() == list(range(1, 11))


def test_a_database_that_stays_away_is_said(world: World, server: HostileServer, api: Pages) -> None:
    connections: list[psycopg.Connection[Any]] = []
    runtime = world.runtime

    def connect() -> psycopg.Connection[Any]:
        if connections:
            raise psycopg.OperationalError("connection refused")
        connections.append(world.connect())
        return connections[0]

    runtime.connect = connect

    def answer(asked: Asked) -> Reply:
        if asked.page == 2:
            world.sql("select pg_terminate_backend(%s)", connections[0].info.backend_pid)
        return api(asked)

    server.answer = answer
    from dagster_project.ingest.fetch.run import fetch_source

    with pytest.raises(DatabaseError, match="landing log can't be used: connection refused"):
        fetch_source(make_card(server.url), runtime)
    assert connections[0].closed
    server.answer = api
    world.fetch(make_card(server.url))
    assert [a.page for a in server.asked] == [1, 2, 2, 3, 4]


def test_an_archive_that_cant_be_written_stops_the_fetch(world: World, server: HostileServer) -> None:
    (world.folder / "landing").write_text("a file where the folder should be")
    with pytest.raises(LandingError, match=r"landing archive .* can't be written"):
        world.fetch(make_card(server.url))
    assert len(server.asked) == 1
    assert world.sql("select status, position from bindery.batches") == [("open", 0)]


def test_an_interrupt_leaves_a_batch_to_resume(world: World, server: HostileServer) -> None:
    count = 0

    def interrupt(stage: str) -> None:
        nonlocal count
        count += stage == "fetch"
        if count == 3:
            raise KeyboardInterrupt

    world.checkpoint = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.fetch(make_card(server.url))
    world.checkpoint = lambda _stage: None
    world.fetch(make_card(server.url))
    assert [a.page for a in server.asked] == [1, 2, 3, 4]
    assert world.ids() == list(range(1, 11))
