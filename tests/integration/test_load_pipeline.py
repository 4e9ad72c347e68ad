"""Previews, cursors, partitions and many small pages: what a load meets besides one file."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import RestApiSourceCard
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.load.run import load_source
from dagster_project.settings import Settings
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply
from tests.integration.load_world import World


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    return World(settings, tmp_path)


def api(server: HostileServer, **stream: Any) -> RestApiSourceCard:
    records = {
        "name": "t",
        "path": "/records",
        "records": "results",
        "paginator": {"type": "json_link", "next_url_path": "next"},
    }
    return RestApiSourceCard.model_validate(
        {
            "source": "src",
            "base_url": server.url,
            "http_retry": {"attempts": 1, "max_wait": 0.05},
            "streams": [{**records, **stream}],
        }
    )


def pages(count: int, size: int) -> Any:
    def answer(asked: Asked) -> Reply:
        page = asked.page
        numbers = range((page - 1) * size, page * size)
        results = [{"id": n, "at": f"2024-01-01T00:{n // 60 % 60:02d}:{n % 60:02d}Z", "tags": [n]} for n in numbers]
        return json_reply({"next": f"/records?page={page + 1}" if page < count else None, "results": results})

    return answer


class Nowhere:
    """A database that nobody may ask."""

    def __call__(self) -> psycopg.Connection[Any]:
        raise AssertionError("a preview asked the database")


def test_a_preview_shows_typed_rows_and_asks_no_database(world: World) -> None:
    world.runtime.connect = Nowhere()
    world.write(
        "t.csv",
        "Some Id,zip,price,day,at,ok,none,doc\n1,00501,1.50,2024-02-29,2024-01-01T10:00:00Z,true,,x\n2,1,2,,,,,y\n",
    )
    card = world.card({"name": "t", "columns": {"doc": {"type": "bigint"}}})
    rows = pipeline.preview(card, world.runtime, "t", 1)
    assert rows == [
        {
            "some_id": 1,
            "zip": "00501",
            "price": Decimal("1.50"),
            "day": date(2024, 2, 29),
            "at": datetime(2024, 1, 1, 10, tzinfo=UTC),
            "ok": True,
            "none": None,
            "doc": "x",
        }
    ]
    assert [row["some_id"] for row in pipeline.preview(card, world.runtime, "t", 5)] == [1, 2]
    assert not Path(world.runtime.landing).exists()


def test_a_preview_of_an_api_asks_for_little(world: World) -> None:
    world.runtime.connect = Nowhere()
    with HostileServer(pages(50, 10)) as server:
        rows = pipeline.preview(api(server), world.runtime, "t", 15)
        assert [row["id"] for row in rows] == list(range(15))
        assert rows[0]["tags"] == [0]
        assert len([asked for asked in server.asked if asked.path == "/records"]) <= 3


def test_a_preview_of_a_source_that_is_down_says_so(world: World) -> None:
    with HostileServer(lambda _: Reply(500)) as server, pytest.raises(SourceError, match="500"):
        pipeline.preview(api(server), world.runtime, "t", 5)


def test_thousands_of_small_pages_are_loaded_in_few_copies(world: World) -> None:
    copies: list[str] = []
    world.runtime.checkpoint = copies.append
    with HostileServer(pages(700, 3)) as server:
        report = world.run(api(server, primary_key="id", write="merge")).streams["t"]
    assert (report.objects, report.inserted) == (700, 2100)
    assert copies.count("copy") == 1
    assert world.types()["at"] == "timestamp with time zone"


def test_records_that_an_earlier_batch_brought_are_left_out_of_an_append(world: World) -> None:
    records = [{"id": n, "at": f"2024-01-0{n}T00:00:00Z"} for n in range(1, 5)]
    shown = 2

    def answer(_: Asked) -> Reply:
        return json_reply({"next": None, "results": [*records[:shown], {"id": 99, "at": None}]})

    with HostileServer(answer) as server:
        card = api(server, cursor={"field": "at"})
        assert world.run(card).streams["t"].inserted == 3
        shown = 4
        report = world.run(card).streams["t"]
        assert (report.rows_read, report.inserted) == (3, 3)
        again = pipeline.replay_source(card, world.runtime).load.streams["t"]
        assert (again.deleted, again.inserted) == (6, 6)
    assert world.rows("select id, count(*) from raw.src__t group by id order by id") == [
        *((n, 1) for n in range(1, 5)),
        (99, 2),
    ]


def test_a_partition_is_replaced_alone(world: World) -> None:
    card = world.card({"name": "t", "write": "replace"})
    deleted = []
    for partition, text in (("2024-01", "id\n1\n2\n"), ("2024-02", "id\n3\n"), ("2024-01", "id\n4\n")):
        world.write("t.csv", text)
        fetch_source(card, world.runtime, partition=partition)
        deleted.append(load_source(card, world.runtime, partition=partition).streams["t"].deleted)
    assert deleted == [0, 0, 2]
    assert world.rows("select id from raw.src__t order by id") == [(3,), (4,)]
    assert world.rows("select partition, count(*) from bindery.load_streams group by 1 order by 1") == [
        ("2024-01", 2),
        ("2024-02", 1),
    ]
    replayed = pipeline.replay_source(card, world.runtime, partition="2024-02").load.streams["t"]
    assert (replayed.deleted, replayed.inserted) == (1, 1)
    assert world.rows("select id from raw.src__t order by id") == [(3,), (4,)]


def test_progress_tells_stages(world: World) -> None:
    world.load({"name": "t", "primary_key": "id", "write": "merge"}, "id\n1\n")
    stages = [event.stage for event in world.seen if event.stream == "t"]
    assert stages.index("copy") < stages.index("merge") < stages.index("done")
    assert [event.rows for event in world.seen if event.stage == "done" and event.stream == "t"] == [1]
