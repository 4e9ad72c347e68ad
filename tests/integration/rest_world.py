"""What the tests of fetching share: a card, a runtime over the test's own database, a paged API, looks into the log."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_project import warehouse
from dagster_project.ingest.cards import RestApiSourceCard
from dagster_project.ingest.fetch.report import FetchReport
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.landing.archive import Archive
from dagster_project.ingest.landing.log import LandingLog
from dagster_project.ingest.landing.model import Batch, LandedObject
from dagster_project.ingest.runtime import Progress, Runtime
from dagster_project.settings import Settings
from dagster_project.warehouse.bootstrap import run
from dagster_project.warehouse.grants import database_statements
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply
from tests.integration.references import Values

_numbers = iter(range(1, 1_000_000))
FAST = {"http_retry": {"attempts": 2, "max_wait": 0.05}}


@dataclass(slots=True)
class World:
    """A database and an archive of the test's own, and what the engine says."""

    settings: Settings
    folder: Path
    told: list[Progress] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    checkpoint: Callable[[str], None] = lambda _stage: None

    @property
    def runtime(self) -> Runtime:
        """What a fetch is given."""
        return Runtime(
            connect=self.connect,
            landing=str(self.folder / "landing"),
            resolver=Values(**self.values),
            contact="mailto:test@example.org",
            progress=self.told.append,
            checkpoint=self.checkpoint,
        )

    def connect(self) -> psycopg.Connection[Any]:
        """Connect as the loader."""
        return warehouse.connect(self.settings, "loader")

    def fetch(self, card: RestApiSourceCard, **options: Any) -> FetchReport:
        """Fetch."""
        return fetch_source(card, self.runtime, **options)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Ask the database."""
        with self.connect() as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def batches(self, stream: str = "books") -> list[Batch]:
        """Give a stream's sealed batches."""
        with self.connect() as connection:
            return LandingLog(connection).sealed_since("test", stream, "", 0)

    def landed(self, stream: str = "books", batch: int = -1) -> list[LandedObject]:
        """Give the objects of a sealed batch, the newest by default."""
        with self.connect() as connection:
            return list(LandingLog(connection).objects(self.batches(stream)[batch].batch_id))

    def documents(self, stream: str = "books", batch: int = -1) -> list[Any]:
        """Decode what a batch landed, in order."""
        archive = Archive(str(self.folder / "landing"))
        found = []
        for landed in self.landed(stream, batch):
            assert landed.uri is not None
            with archive.open(landed.uri, landed.sha256) as body:
                found.append(json.loads(body.read()))
        return found

    def ids(self, stream: str = "books", batch: int = -1) -> list[int]:
        """Give the ids of the records of a batch, in order."""
        return [record["id"] for document in self.documents(stream, batch) for record in document["results"]]


@pytest.fixture(scope="module")
def database(server_settings: Settings, admin: psycopg.Connection[Any]) -> Iterator[str]:
    """Make one database for all tests of a module: they differ in rows alone, and making one takes most of a second."""
    name = f"test_fetch_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}_{next(_numbers)}"
    template = server_settings.database_name
    run(admin, [f'create database "{name}" owner bindery_owner template "{template}" strategy file_copy'])
    run(admin, database_statements(name))
    yield name
    run(admin, [f'drop database if exists "{name}" with (force)'])


def empty_log(settings: Settings) -> None:
    """Take away what the test before wrote."""
    with warehouse.connect(settings, "loader") as connection:
        for table in ("load_batches", "loads", "landed", "batches", "state"):
            connection.execute(f"delete from bindery.{table}".encode())


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    """Give a world of the test's own, over the module's database."""
    empty_log(settings)
    return World(settings, tmp_path)


@pytest.fixture
def api() -> Pages:
    """Give what the server answers with."""
    return Pages()


@pytest.fixture
def server(api: Callable[[Asked], Reply]) -> Iterator[HostileServer]:
    """Serve ``api`` on loopback."""
    with HostileServer(api) as made:
        yield made


def make_card(base: str, *streams: dict[str, Any], **fields: Any) -> RestApiSourceCard:
    """Make a card; without streams one of books that follows ``next``."""
    books = {
        "name": "books",
        "path": "/books",
        "records": "results",
        "paginator": {"type": "json_link", "next_url_path": "next"},
        "primary_key": "id",
        "write": "merge",
    }
    return RestApiSourceCard.model_validate(
        {"source": "test", "base_url": base, **FAST, "streams": [{**books, **s} for s in streams] or [books], **fields}
    )


@dataclass(slots=True)
class Pages:
    """An API of numbered records in pages, as Gutendex gives them."""

    total: int = 10
    size: int = 3
    updated: Callable[[int], Any] = lambda n: f"2024-01-{n:02d}T00:00:00Z"

    def __call__(self, asked: Asked) -> Reply:
        """Answer one page."""
        since = asked.query.get("updated_since", "")
        records = [{"id": n, "updated_at": self.updated(n)} for n in range(1, self.total + 1)]
        records = [record for record in records if str(record["updated_at"]) > since]
        page = records[(asked.page - 1) * self.size : asked.page * self.size]
        more = asked.page * self.size < len(records)
        following = f"/books?page={asked.page + 1}" + (f"&updated_since={since}" if since else "")
        return json_reply({"count": len(records), "next": following if more else None, "results": page})


__all__ = [
    "Archive",
    "Asked",
    "HostileServer",
    "Pages",
    "Reply",
    "Values",
    "World",
    "api",
    "database",
    "empty_log",
    "json_reply",
    "make_card",
    "server",
    "world",
]
