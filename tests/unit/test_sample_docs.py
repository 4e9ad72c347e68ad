"""docs/sample-world.md says what is so: its counts, its revision, its commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dagster_project.sample.__main__ import main
from dagster_project.sample.catalogue import record_of
from dagster_project.sample.drops import file_names
from dagster_project.sample.works import real_works
from dagster_project.sample.world import World

DOC = (Path(__file__).parents[2] / "docs" / "sample-world.md").read_text(encoding="utf-8")
ROWS = {
    "books in the catalogue": "books",
    "of them withdrawn": "books_withdrawn",
    "products listed in the shop": "products",
    "of them without a page (404)": "products_dead",
    "products with a page": "products_reachable",
    "products that the catalogue doesn't have": "products_unknown_to_catalogue",
    "listing pages": "listing_pages",
    "categories": "categories",
    "rating rows that are good": "ratings_rows",
    "ratings left when the newest per reader and book counts": "ratings_distinct",
    "rating rows that are bad": "ratings_bad_rows",
    "readers": "readers",
}


@pytest.mark.parametrize("revision", [1, 2])
def test_the_table_of_counts_is_what_the_world_counts(revision: int) -> None:
    table = {
        match[1].strip(): int(match[1 + revision])
        for match in re.finditer(r"^\| ([^|]+) \| (\d+) \| (\d+) \|$", DOC, re.MULTILINE)
    }
    summary = World(revision).summary()
    assert table == {text: summary[key] for text, key in ROWS.items()}


def test_the_second_revision_is_told_as_it_is() -> None:
    first, second = World(1), World(2)
    before = {b.work.id: record_of(b) for b in first.catalogue.slice(0, 10**9)}
    after = {b.work.id: record_of(b) for b in second.catalogue.slice(0, 10**9)}
    products = [{p.number: p for p in w.shop.slice(0, 10**9)} for w in (first, second)]
    both = products[0].keys() & products[1].keys()
    (gone,) = [r for r in after.values() if r["withdrawn"]]
    changed = sum(before[i] != after[i] for i in before)
    told = {
        "new books": f"| new in the catalogue | {len(after.keys() - before.keys())} real books",
        "changes": f"| changed in the catalogue | {changed} records",
        "withdrawn": f"*{gone['title']}* ({gone['id']})",
        "shop": f"{len(products[1].keys() - products[0].keys())} new products, "
        f"{sum(products[0][n].pence != products[1][n].pence for n in both)} changed prices, "
        f"{sum(products[0][n].stock != products[1][n].stock for n in both)} changed stocks",
        "works": f"{len(real_works())} works are real",
    }
    assert {what: text for what, text in told.items() if text not in DOC} == {}


def test_files_and_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for name in file_names(1):
        assert f"`{name}`" in DOC
    commands = set(re.findall(r"python -m dagster_project\.sample (\w+)", DOC))
    assert commands == {"serve", "drops", "summary", "extract"}
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert command in capsys.readouterr().out
