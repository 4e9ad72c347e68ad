"""The real Gutendex answer, served as an API by its own words: pages, next links to follow, records as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest.parse import read
from dagster_project.settings import Settings
from tests.integration.rest_world import Archive, Asked, HostileServer, Reply, World, json_reply, make_card


@pytest.fixture
def answer(real_data: Path) -> bytes:
    (found,) = (real_data / "gutenberg" / "gutendex_api").rglob("books_response.json")
    return found.read_bytes()


@pytest.fixture
def server(answer: bytes) -> Iterator[HostileServer]:
    """The answer's own bytes as the first page, and pages cut from its records, as Gutendex pages them, behind it."""
    document = json.loads(answer)
    whole = document["results"]

    def serve(asked: Asked) -> Reply:
        assert asked.path == "/books/"
        if asked.page == 1:
            return Reply(
                200, answer.replace(b"http://gutendex.com", made.url.encode()), {"Content-Type": "application/json"}
            )
        more = [{**record, "id": 100_000 * asked.page + record["id"]} for record in whole]
        following = f"{made.url}/books/?page={asked.page + 1}" if asked.page < 4 else None
        return json_reply({**document, "next": following, "results": more})

    with HostileServer(serve) as made:
        yield made


def test_gutendex_is_read_page_by_page(
    settings: Settings, tmp_path: Path, server: HostileServer, answer: bytes
) -> None:
    world = World(settings, tmp_path)
    cursor = {"field": "updated_at", "param": "updated_since"}
    card = make_card(server.url, {"path": "/books/", "cursor": cursor})
    report = world.fetch(card)
    assert [asked.target for asked in server.asked] == ["/books/", "/books/?page=2", "/books/?page=3", "/books/?page=4"]
    assert report.streams["books"].records == 4 * 32
    assert report.streams["books"].warnings == [
        "no record has `cursor.field: updated_at`: every fetch reads everything"
    ]
    assert world.batches()[0].cursor_proposed is None
    first = world.landed()[0]
    archive = Archive(str(tmp_path / "landing"))
    with archive.open(first.uri or "") as body:
        assert body.read().replace(server.url.encode(), b"http://gutendex.com") == answer
    (chunk,) = read(card, card.stream("books"), first, lambda: archive.open(first.uri or ""))
    records: list[dict[str, Any]] = json.loads(answer)["results"]
    assert chunk.rows == 32
    assert chunk.columns["title"].values.to_pylist() == [record["title"] for record in records]
    assert [json.loads(text) for text in chunk.columns["authors"].values.to_pylist()] == [r["authors"] for r in records]
    world.fetch(card)
    assert len(server.asked) == 8, "without a cursor everything is read again"


def test_gutendex_in_a_sample(settings: Settings, tmp_path: Path, server: HostileServer) -> None:
    world = World(settings, tmp_path)
    world.values["pages"] = "2"
    world.fetch(make_card(server.url, {"path": "/books/", "max_pages": {"setting": "pages"}}))
    assert len(world.ids()) == 64
    assert len(set(world.ids())) == 64
