"""The engine on data nobody here made, with cards as a user would write them (``tests/fixtures/cards``)."""

from __future__ import annotations

import functools
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import SourceCard
from dagster_project.ingest.cards.read import read_card
from dagster_project.settings import Settings
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply
from tests.integration.load_world import World
from tests.integration.references import Values

CARDS = Path(__file__).parent.parent / "fixtures" / "cards"


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    world = World(settings, tmp_path)
    world.runtime.resolver = Values(folder=str(world.folder))
    return world


def card(name: str) -> SourceCard:
    return read_card(CARDS / f"{name}.yaml")


def test_a_million_ratings_with_duplicates_and_conflicts(world: World, real_data: Path) -> None:
    shutil.copy(real_data / "goodbooks/v1/ratings.csv.zip", world.folder)
    report = world.run(card("goodbooks_v1")).streams["ratings"]
    assert (report.rows_read, report.inserted, report.quarantined) == (981_756, 979_478, 0)
    assert (report.duplicates, report.conflicts) == (2278, 633)
    print({name: round(value, 2) for name, value in report.stages.items()}, f"{report.rows_per_second:,.0f} rows/s")
    # The same rows in other bytes: nothing is touched.
    places = world.rows(
        "select md5(string_agg(ctid::text || xmin::text, '' order by ctid)) from raw.goodbooks1__ratings"
    )
    with zipfile.ZipFile(world.folder / "ratings.csv.zip", "a") as archive:
        archive.comment = b"observed again"
    report = world.run(card("goodbooks_v1")).streams["ratings"]
    assert (report.inserted, report.updated, report.unchanged) == (0, 0, 979_478)
    assert (report.duplicates, report.conflicts) == (2278, 633)
    assert places == world.rows(
        "select md5(string_agg(ctid::text || xmin::text, '' order by ctid)) from raw.goodbooks1__ratings"
    )


def test_books_of_the_second_version(world: World, real_data: Path) -> None:
    for name in ("books.csv", "tags.csv"):
        shutil.copy(real_data / "goodbooks/v2" / name, world.folder)
    report = world.run(card("goodbooks_v2"))
    books, tags = report.streams["books"], report.streams["tags"]
    assert (books.inserted, books.quarantined, tags.inserted) == (10_000, 0, 34_252)
    assert world.rows(
        "select isbn, isbn13, original_publication_year, average_rating::text from raw.goodbooks__books "
        "where book_id = 1"
    ) == [("439023483", "9.78043902348e+12", 2008, "4.34")]
    assert world.one("select min(original_publication_year) from raw.goodbooks__books") == -1750
    assert world.one("select count(*) from raw.goodbooks__tags where tag_name ~ '[^ -~]'") == 1289


def test_overlapping_slices_one_after_another(world: World, real_data: Path) -> None:
    slices = sorted(path for path in (real_data / "goodbooks/v2_subsets").iterdir() if path.is_dir())
    assert len(slices) == 4
    distinct: set[str] = set()
    for folder in slices:
        target = world.folder / folder.name
        shutil.copytree(folder, target)
        report = world.run(card("goodbooks_v2"))
        books = report.streams["books"]
        lines = (folder / "books.csv").read_text(encoding="utf-8").splitlines()
        before = len(distinct)
        distinct |= {line.split(",", 1)[0] for line in lines[1:] if line.split(",", 1)[0].isdigit()}
        assert books.inserted == len(distinct) - before
        assert books.rows_read == books.inserted + books.updated + books.unchanged + books.duplicates
        assert sum(stream.quarantined for stream in report.streams.values()) == 0
    assert "non_english" in world.types("goodbooks__books")
    assert world.one("select count(*) from raw.goodbooks__books") == len(distinct)
    tables = ("books", "book_tags", "to_read", "ratings")
    counts = {name: world.one(f"select count(*) from raw.goodbooks__{name}") for name in tables}
    last = slices[-1]
    shutil.copytree(last, world.folder / "once-more")
    report = world.run(card("goodbooks_v2"))
    for name, stream in report.streams.items():
        assert (stream.inserted, stream.updated) == (0, 0), name
    assert counts == {name: world.one(f"select count(*) from raw.goodbooks__{name}") for name in tables}


def test_daily_reports_whose_columns_change(world: World, real_data: Path) -> None:
    files = sorted((real_data / "covid").glob("*/*.csv"))
    rows, widths = 0, []
    for day in ("02-20-2020", "03-01-2020", "03-22-2020"):
        for file in [file for file in files if file.stem <= day and not (world.folder / file.name).exists()]:
            shutil.copy(file, world.folder)
        report = world.run(card("covid")).streams["reports"]
        rows += report.inserted
        widths.append(len(world.types("covid__reports")) - 2)  # without the file's name and the lineage
        assert (report.quarantined, report.widened) == (0, {})
    for file in files:
        shutil.copy(file, world.folder)
    rows += world.run(card("covid")).streams["reports"].inserted
    assert widths[0] < widths[1] < widths[2]
    assert rows == world.one("select count(*) from raw.covid__reports")
    assert world.types("covid__reports")["last_update"] == "timestamp without time zone"
    assert world.one("select count(*) from raw.covid__reports where last_update is null") == 0
    assert world.one("select count(distinct report) from raw.covid__reports") == len(files)
    assert world.one("select fips from raw.covid__reports where fips like '0%%' order by 1 limit 1").startswith("0")
    assert world.one("select count(*) from raw.covid__reports where country_region is null") == 0


def test_documents_in_which_hardly_two_have_the_same_fields(world: World, real_data: Path) -> None:
    folder = real_data / "openlibrary/dev_db_jsonl"
    for name in ("authors", "editions", "works"):
        shutil.copy(folder / f"{name}.jsonl", world.folder)
    report = world.run(card("openlibrary"))
    for name, stream in report.streams.items():
        documents = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert stream.rows_read == len(documents)
        assert stream.inserted + stream.duplicates == len({d["key"] for d in documents}) + stream.duplicates
        assert stream.quarantined == 0
        last = {document["key"]: document for document in documents}
        columns = dict(world.rows("select source_name, column_name from bindery.columns where stream = %s", name))
        names = ", ".join(f"to_jsonb({column})" for column in columns.values())
        for key, *values in world.rows(f"select key, {names} from raw.openlibrary__{name}"):
            for field, value in zip(columns, values, strict=True):
                assert same(value, last[key].get(field)), (name, key, field)


def same(loaded: Any, original: Any) -> bool:
    """Tell whether a loaded value is the document's: dates come back in Postgres' spelling."""
    if isinstance(loaded, str) and isinstance(original, str):
        return loaded.replace("T", " ").rstrip("0") == original.replace("T", " ").rstrip("0")
    return bool(loaded == original)


def test_the_catalogues_real_answer(world: World, real_data: Path) -> None:
    (file,) = (real_data / "gutenberg/gutendex_api").glob("*/*.json")
    answer = json.loads(file.read_bytes())

    def reply(asked: Asked) -> Reply:
        return json_reply(file.read_bytes()) if asked.path == "/books" else Reply(404)

    with HostileServer(reply) as server:
        world.runtime.resolver = Values(gutendex_url=server.url)
        report = world.run(card("gutendex")).streams["books"]
        assert report.inserted == len(answer["results"]) == 32
        types = world.types("gutendex__books")
        assert (types["id"], types["authors"], types["formats"], types["download_count"]) == (
            *("bigint", "jsonb"),
            *("jsonb", "bigint"),
        )
        record = answer["results"][0]
        rows = world.rows("select title, authors, formats from raw.gutendex__books where id = %s", record["id"])
        assert rows == [(record["title"], record["authors"], record["formats"])]
        assert world.run(card("gutendex")).streams["books"].unchanged == 32


@pytest.fixture
def shop(real_data: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(real_data / "toscrape/site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_shop_with_dead_links(world: World, shop: str, real_data: Path) -> None:
    world.runtime.resolver = Values(shop_url=shop)
    result = pipeline.run_source(card("toscrape"), world.runtime)
    pages = len(list((real_data / "toscrape/site/catalogue").glob("*/index.html")))
    listed, products = result.load.streams["listed"], result.load.streams["products"]
    assert result.fetch is not None
    assert (listed.rows_read - listed.duplicates, products.inserted, products.quarantined) == (400, 97, 0)
    assert pages >= 97
    assert sum(stream.not_found for stream in result.fetch.streams.values()) > 0
    assert world.rows(
        "select title, price, stock, category from raw.toscrape__products where title = 'Soumission'"
    ) == [("Soumission", Decimal("50.10"), 20, "Fiction")]
    assert world.one("select count(*) from raw.toscrape__products where description is null or price is null") <= 1
