"""The dbt project on tables as the real sites fill them: columns that stay NULL, a shop without authors; freshness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dagster_project.settings import Settings
from tests.integration.dbt_world import Warehouse

BOOKS = [
    {"id": 113, "title": "The Secret Garden", "authors": [{"name": "Burnett, Frances Hodgson", "birth_year": 1849}]},
    {"id": 158, "title": "Emma", "authors": [{"name": "Austen, Jane", "birth_year": 1775, "death_year": 1817}]},
    {"id": 16328, "title": "Beowulf: An Anglo-Saxon Epic Poem", "authors": []},
]
PRODUCTS = [
    {"upc": "upc-garden", "title": "The Secret Garden", "price": "15.08", "category": "Childrens"},
    {"upc": "upc-emma", "title": "Emma", "price": "32.93", "category": "Default"},
    {
        "upc": "upc-sapiens",
        "title": "Sapiens: A Brief History of Humankind",
        "price": "54.23",
        "category": "History",
    },
]


@pytest.fixture
def live(server_settings: Settings, database: str, tmp_path: Path) -> Warehouse:
    """A database with what Gutendex and books.toscrape.com say, and no ratings."""
    warehouse = Warehouse(server_settings, database, tmp_path)
    warehouse.create_tables()
    warehouse.load(
        "gutenberg__books",
        [{**book, "languages": ["en"], "download_count": 10, "media_type": "Text"} for book in BOOKS],
        at="now",
    )
    warehouse.load(
        "bookshop__products",
        [
            {**product, "url": f"https://books.toscrape.com/catalogue/b_{n}/index.html", "currency": "GBP", "stock": n}
            for n, product in enumerate(PRODUCTS, 1)
        ],
        at="2020-01-01T00:00:00Z",
    )
    return warehouse


def test_what_the_real_sites_lack_is_no_obstacle(live: Warehouse) -> None:
    live.dbt("build", "--exclude-resource-type", "unit_test")
    assert {each["status"] for each in live.results.values()} <= {"success", "pass", "no-op"}
    found = live.rows(
        "select title, match_kind, author_names, price::text, category_name, issued_date, popularity_rank is not null "
        "from marts.dim_books join marts.book_popularity using (book_id) order by title, match_kind"
    )
    assert found == [
        ("Beowulf: An Anglo-Saxon Epic Poem", "catalogue_only", None, None, None, None, True),
        ("Emma", "catalogue_only", "Jane Austen", None, None, None, True),
        ("Emma", "shop_only", None, "32.93", None, None, True),
        ("Sapiens: A Brief History of Humankind", "shop_only", None, "54.23", "History", None, True),
        ("The Secret Garden", "both", "Frances Hodgson Burnett", "15.08", "Childrens", None, True),
    ]
    assert live.one("select count(*) from marts.fct_ratings") == 0

    told = live.dbt("source", "freshness", succeeds=False)
    status = {each["unique_id"]: each["status"] for each in _sources(live)}
    assert status == {
        "source.bindery.raw.gutenberg__books": "pass",
        "source.bindery.raw.bookshop__products": "error",
        "source.bindery.raw.uploads__ratings": "warn",
    }, told


def _sources(warehouse: Warehouse) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((warehouse.folder / "sources.json").read_text())["results"]
    return found
