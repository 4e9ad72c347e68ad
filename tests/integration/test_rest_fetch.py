"""Fetching an API into a real Postgres: what lands, what is told, where the next fetch starts, what failure leaves."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from dagster_project.ingest.errors import CardError
from dagster_project.ingest.fetch.report import FetchFailed, FetchInterrupted
from dagster_project.ingest.fetch.run import fetch_sample
from dagster_project.ingest.landing.archive import Archive
from dagster_project.ingest.parse import read
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


CURSOR = {"cursor": {"field": "updated_at", "param": "updated_since", "initial": "2024-01-02T00:00:00Z"}}


def test_every_page_is_landed_as_it_came(world: World, server: HostileServer) -> None:
    report = world.fetch(make_card(server.url))
    assert server.targets == ["/books", "/books?page=2", "/books?page=3", "/books?page=4"]
    assert world.ids() == list(range(1, 11))
    figures = report.streams["books"]
    assert (figures.objects, figures.records, figures.requests, figures.retries) == (4, 10, 4, 0)
    assert (figures.sealed, figures.resumed, figures.error, figures.warnings) == (True, False, None, [])
    assert figures.bytes == sum(landed.size or 0 for landed in world.landed())
    assert 0 < figures.seconds <= report.seconds
    (batch,) = world.batches()
    assert batch.stats["complete"] is True
    assert batch.stats["requests"] == 4
    first = world.landed()[0]
    assert (first.origin, first.media_type, first.position) == (f"{server.url}/books", "application/json", 0)
    assert {"status": 200, "url": f"{server.url}/books", "records": 3}.items() <= first.meta.items()
    assert [p.stage for p in world.told][-1] == "done"


def test_numbers_land_byte_for_byte(world: World, server: HostileServer) -> None:
    body = b'{"results": [{"id": 18446744073709551616123, "price": 0.10000000000000000001}], "next": null}'
    server.answer = lambda _: json_reply(body)
    world.fetch(make_card(server.url))
    (landed,) = world.landed()
    with Archive(str(world.folder / "landing")).open(landed.uri or "") as kept:
        assert kept.read() == body


@pytest.mark.parametrize(("empty", "path"), [({"results": [], "next": None}, "results"), ([], None)])
def test_an_empty_source_is_a_sealed_batch_without_objects(
    world: World, server: HostileServer, empty: Any, path: str | None
) -> None:
    server.answer = lambda _: json_reply(empty)
    report = world.fetch(make_card(server.url, {"records": path, "paginator": {"type": "page_number"}}))
    assert (report.streams["books"].objects, report.streams["books"].sealed) == (0, True)
    (batch,) = world.batches()
    assert (world.landed(), batch.stats["complete"]) == ([], True)


def test_the_next_fetch_asks_for_what_is_new(world: World, server: HostileServer, api: Pages) -> None:
    card = make_card(server.url, CURSOR)
    world.fetch(card)
    assert server.asked[0].query == {"updated_since": "2024-01-02T00:00:00Z"}
    assert world.ids() == list(range(3, 11))
    newest = {"field": "updated_at", "value": "2024-01-10T00:00:00Z"}
    assert world.batches()[0].cursor_proposed == newest

    world.fetch(card)
    assert server.asked[-1].query == {"updated_since": "2024-01-10T00:00:00Z"}
    assert world.ids() == []
    assert world.batches()[1].cursor_proposed == newest, "nothing new keeps the cursor"

    api.total = 12
    world.fetch(card)
    assert world.ids() == [11, 12]
    assert world.batches()[2].cursor_proposed == {"field": "updated_at", "value": "2024-01-12T00:00:00Z"}
    assert [batch.stats["complete"] for batch in world.batches()] == [True, False, False]

    world.fetch(card, full_refresh=True)
    assert world.ids() == list(range(3, 13))


def test_lookback_asks_for_a_little_more(world: World, server: HostileServer) -> None:
    card = make_card(server.url, {"cursor": {**CURSOR["cursor"], "lookback": "2d"}})
    world.fetch(card)
    world.fetch(card)
    assert server.asked[-1].query == {"updated_since": "2024-01-08T00:00:00Z"}
    assert world.ids() == [9, 10]
    assert world.batches()[-1].cursor_proposed == {"field": "updated_at", "value": "2024-01-10T00:00:00Z"}


def test_a_cursor_without_a_parameter_lands_only_pages_with_something_new(
    world: World, server: HostileServer, api: Pages
) -> None:
    card = make_card(server.url, {"cursor": {"field": "updated_at"}})
    world.fetch(card)
    api.total = 11
    report = world.fetch(card)
    assert [landed.meta["cursor"] for landed in world.landed()] == [
        {"field": "updated_at", "above": "2024-01-10T00:00:00Z"}
    ]
    assert world.ids() == [10, 11]
    (landed,) = world.landed()
    archive = Archive(str(world.folder / "landing"))
    (chunk,) = read(card, card.stream("books"), landed, lambda: archive.open(landed.uri or ""))
    assert (chunk.columns["id"].values.to_pylist(), chunk.first_ordinal) == (["11"], 2), "10 was there before"
    assert (report.streams["books"].unchanged, report.streams["books"].requests) == (3, 4)


def test_a_cursor_that_no_record_has_is_told_once(world: World, server: HostileServer, api: Pages) -> None:
    api.updated = lambda _: None
    report = world.fetch(make_card(server.url, {"cursor": {"field": "updated_at", "param": "updated_since"}}))
    assert report.streams["books"].warnings == [
        "no record has `cursor.field: updated_at`: every fetch reads everything"
    ]
    assert [p.stage for p in world.told].count("warning") == 1
    assert world.batches()[0].cursor_proposed is None


def test_replace_reads_everything_every_time(world: World, server: HostileServer) -> None:
    card = make_card(server.url, {**CURSOR, "write": "replace"})
    for _ in range(2):
        world.fetch(card)
        assert world.ids() == list(range(1, 11))
        assert world.batches()[-1].stats["complete"] is True
    assert all("updated_since" not in asked.query for asked in server.asked)


def test_a_limit_stops_early_and_keeps_the_cursor(world: World, server: HostileServer) -> None:
    card = make_card(server.url, CURSOR)
    report = world.fetch(card, limit=4)
    assert (report.streams["books"].records, report.streams["books"].requests) == (6, 2)
    (batch,) = world.batches()
    assert (batch.cursor_proposed, batch.stats["complete"]) == (None, False)


@pytest.mark.parametrize("ordered", [True, False])
def test_max_pages_is_a_bound(world: World, server: HostileServer, api: Pages, ordered: bool) -> None:
    if not ordered:
        api.updated = lambda n: f"2024-01-{20 - n:02d}T00:00:00Z"
    world.values["pages"] = "2"
    card = make_card(server.url, {"cursor": {"field": "updated_at", "param": "x"}, "max_pages": {"setting": "pages"}})
    world.fetch(card)
    (batch,) = world.batches()
    assert (world.ids(), batch.stats["complete"]) == ([1, 2, 3, 4, 5, 6], False)
    expected = {"field": "updated_at", "value": "2024-01-06T00:00:00Z"} if ordered else None
    assert batch.cursor_proposed == expected, "going on behind what wasn't read would lose it"


def test_a_bound_that_isnt_reached_changes_nothing(world: World, server: HostileServer) -> None:
    world.fetch(make_card(server.url, {"max_pages": 4}))
    assert world.batches()[0].stats["complete"] is True


def test_what_the_card_says_is_sent(world: World, server: HostileServer) -> None:
    world.values = {"token": "tok-1234", "lang": "en"}
    card = make_card(
        server.url + "/v1/",
        {
            "path": "/books",
            "params": {"lang": {"setting": "lang"}, "size": 50, "ratio": 0.5, "full": True},
            "headers": {"X-Stream": "s"},
        },
        headers={"X-Card": {"secret": "token"}},  # pragma: allowlist secret
        auth={
            "type": "api_key",
            "name": "key",
            "location": "query",
            "api_key": {"secret": "token"},  # pragma: allowlist secret
        },
    )
    server.answer = lambda _: json_reply({"results": [{"id": 1}], "next": None})
    world.fetch(card)
    (asked,) = server.asked
    assert asked.path == "/v1/books"
    assert asked.query == {"lang": "en", "size": "50", "ratio": "0.5", "full": "true", "key": "tok-1234"}
    assert (asked.headers["x-stream"], asked.headers["x-card"]) == ("s", "tok-1234")
    assert "tok-1234" not in str(world.sql("select to_jsonb(l) from bindery.landed l"))


def test_the_pace_is_the_cards(world: World, server: HostileServer) -> None:
    times: list[float] = []
    world.checkpoint = lambda stage: times.append(time.monotonic()) if stage == "fetch" else None
    world.values["rate"] = "20"
    world.fetch(make_card(server.url, rate_limit={"requests": {"setting": "rate"}, "per": "second"}))
    assert len(times) == 4
    # Not each pause alone: after one that a busy machine made longer the next may be shorter.
    assert times[-1] - times[0] >= 3 * 0.045
    world.values["rate"] = "0"
    with pytest.raises(CardError, match="above zero"):
        world.fetch(make_card(server.url, rate_limit={"requests": {"setting": "rate"}}))


def test_a_query_by_post_pages_through_its_body(world: World, server: HostileServer) -> None:
    def answer(asked: Asked) -> Reply:
        import json

        after = json.loads(asked.body).get("page", {}).get("after", 0)
        return json_reply({"results": [{"id": after + 1}], "cursor": after + 1 if after < 2 else None})

    server.answer = answer
    card = make_card(
        server.url,
        {
            "method": "POST",
            "json_body": {"q": "books"},
            "paginator": {"type": "cursor", "cursor_path": "cursor", "cursor_body_path": "page.after"},
        },
    )
    world.fetch(card)
    assert [(a.method, a.body) for a in server.asked] == [
        ("POST", b'{"q": "books"}'),
        ("POST", b'{"q": "books", "page": {"after": 1}}'),
        ("POST", b'{"q": "books", "page": {"after": 2}}'),
    ]
    assert world.ids() == [1, 2, 3]


def test_a_secret_in_next_links_is_stored_nowhere(world: World, server: HostileServer) -> None:
    """Some APIs write the key that they were given into the next URL."""
    world.values = {"KEY": "k-secret-1234"}

    def answer(asked: Asked) -> Reply:
        if asked.page == 2 and len(server.asked) == 2:
            return Reply(500)
        following = f"/books?apikey={asked.query['apikey']}&page=2" if asked.page == 1 else None
        return json_reply({"results": [{"id": asked.page}], "next": following})

    server.answer = answer
    card = make_card(
        server.url,
        auth={
            "type": "api_key",
            "name": "apikey",
            "location": "query",
            "api_key": {"secret": "KEY"},  # pragma: allowlist secret
        },
        http_retry={"attempts": 1},
    )
    with pytest.raises(FetchInterrupted) as caught:
        world.fetch(card)
    everything = str(world.sql("select to_jsonb(b) from bindery.batches b"))
    everything += str(world.sql("select to_jsonb(l) from bindery.landed l")) + str(caught.value) + str(world.told)
    assert "k-secret" not in everything
    world.fetch(card)
    assert world.ids() == [1, 2]
    assert server.asked[-1].query == {"apikey": "k-secret-1234", "page": "2"}  # pragma: allowlist secret


def test_json_lines(world: World, server: HostileServer) -> None:
    body = b"".join(b'{"id": %d, "at": "2024-01-%02d"}\n' % (n, n % 28 + 1) for n in range(2500))
    server.answer = lambda _: Reply(200, body, {"Content-Type": "application/x-ndjson"})
    card = make_card(
        server.url,
        {"format": "jsonl", "records": None, "paginator": {"type": "single_page"}, "cursor": {"field": "at"}},
    )
    report = world.fetch(card)
    assert report.streams["books"].records == 2500
    assert world.batches()[0].cursor_proposed == {"field": "at", "value": "2024-01-28"}


def test_only_the_streams_asked_for(world: World, server: HostileServer) -> None:
    card = make_card(server.url, {}, {"name": "also", "path": "/also"})
    report = world.fetch(card, streams=["also"])
    assert list(report.streams) == ["also"]
    with pytest.raises(CardError, match=r"no stream 'none'; it has \['books', 'also'\]"):
        world.fetch(card, streams=["none"])


def test_a_missing_page_may_be_the_end(world: World, server: HostileServer, api: Pages) -> None:
    """As APIs do that answer 404 past their last page."""
    server.answer = lambda a: Reply(404) if a.page > 4 else api(a)
    card = make_card(server.url, {"paginator": {"type": "page_number"}, "not_found": "ignore"})
    report = world.fetch(card)
    assert world.ids() == list(range(1, 11))
    assert report.streams["books"].not_found == 1


def test_nothing_is_left_behind(world: World, server: HostileServer) -> None:
    before = threading.active_count()
    world.fetch(make_card(server.url))
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
    others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    while world.sql(others) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert world.sql(others) == [(0,)]


def test_a_sample_needs_no_database(world: World, server: HostileServer) -> None:
    runtime = world.runtime
    runtime.connect = lambda: pytest.fail("a sample needs no database")
    with fetch_sample(make_card(server.url, CURSOR), runtime, "books", 4) as sample:
        assert [landed.meta["records"] for landed in sample.objects] == [3, 3]
        with sample.open(sample.objects[0]) as body:
            assert body.read().startswith(b'{"count": 8')
    assert not (world.folder / "landing").exists()
    assert world.sql("select count(*) from bindery.batches") == [(0,)]
    server.answer = lambda _: Reply(404)
    with pytest.raises(FetchFailed, match="404"), fetch_sample(make_card(server.url), runtime, "books", 4):
        pytest.fail("there is nothing")
