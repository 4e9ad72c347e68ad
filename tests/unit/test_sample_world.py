"""The sample world as an object: equal wherever it is built, different by revision, of any size without memory."""

from __future__ import annotations

import re
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dagster_project.sample.catalogue import record_of
from dagster_project.sample.invented import FIRST_ID, SHELF, invent
from dagster_project.sample.revisions import day_of
from dagster_project.sample.shop import Product
from dagster_project.sample.spelling import without_accents
from dagster_project.sample.works import DATA_FILE, real_works
from dagster_project.sample.world import World

ALL = 10**9


def _records(world: World) -> list[dict[str, Any]]:
    return [record_of(book) for book in world.catalogue.slice(0, ALL)]


def test_committed_works_are_real_enough_in_number_and_kind() -> None:
    works = real_works()
    assert len(works) >= 400
    assert len({w.id for w in works}) == len(works)
    assert [w.id for w in works] == sorted(w.id for w in works)
    titles = {w.id: w.title for w in works}
    assert titles[345] == "Dracula"
    assert titles[1342] == "Pride and Prejudice"
    assert titles[84].startswith("Frankenstein")
    assert titles[11] == "Alice's Adventures in Wonderland"
    french = [w for w in works if "fr" in w.languages]
    assert len(french) >= 40
    assert len({w.languages[0] for w in works}) >= 6
    assert DATA_FILE.stat().st_size < 300_000


def test_two_builds_are_equal_and_a_seed_makes_another() -> None:
    assert _records(World(2)) == _records(World(2))
    assert World(2).shop.slice(0, ALL) == World(2).shop.slice(0, ALL)
    assert World(2, 3).shop.slice(0, ALL) == World(2, 3).shop.slice(0, ALL)
    assert World(1, seed=1).shop.slice(0, 5) != World(1, seed=2).shop.slice(0, 5)


def test_second_revision_adds_changes_and_withdraws() -> None:
    first, second = World(1), World(2)
    before = {r["id"]: r for r in _records(first)}
    after = {r["id"]: r for r in _records(second)}
    assert len(before) >= 300
    assert set(before) < set(after)
    assert all(book_id < FIRST_ID for book_id in after)

    changed = {i for i in before if before[i] != after[i]}
    withdrawn = [i for i in after if after[i]["withdrawn"]]
    assert len(withdrawn) == 1
    assert not any(r["withdrawn"] for r in before.values())
    new = set(after) - set(before)
    assert len(new) >= 5
    # Exactly what changed or is new is found by its date.
    found = {b.work.id for b in second.catalogue.slice(0, ALL, day_of(2))}
    assert found == changed | new
    assert set(withdrawn) < found
    assert first.catalogue.count(day_of(2)) == 0

    sold_before = {p.number: p for p in first.shop.slice(0, ALL)}
    sold_after = {p.number: p for p in second.shop.slice(0, ALL)}
    gone = set(sold_before) - set(sold_after)
    assert [sold_before[n].work.id for n in gone] == withdrawn
    assert len(set(sold_after) - set(sold_before)) >= 2
    repriced = [n for n in sold_before.keys() & sold_after.keys() if sold_before[n].pence != sold_after[n].pence]
    assert 10 <= len(repriced) <= 100
    for number, product in sold_after.items():
        if number in sold_before:
            same = sold_before[number].price == product.price and sold_before[number].stock == product.stock
            assert (product.changed_at == day_of(2)) or same
            assert product.slug == sold_before[number].slug


@pytest.mark.parametrize("revision", [3, 7, 12])
def test_later_revisions_go_on(revision: int) -> None:
    before, after = World(revision - 1), World(revision)
    assert after.catalogue.count() > before.catalogue.count()
    assert sum(bool(r["withdrawn"]) for r in _records(after)) == revision - 1
    assert after.catalogue.count(day_of(revision)) > 0
    assert before.catalogue.count(day_of(revision)) == 0


@pytest.mark.parametrize("scale", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("revision", [1, 2, 5, 9, 150])
def test_arithmetic_finds_what_looking_at_each_book_finds(scale: float, revision: int) -> None:
    catalogue = World(revision, scale).catalogue
    books = catalogue.slice(0, ALL)
    assert len(books) == catalogue.count()
    assert [b.work.id for b in books] == sorted({b.work.id for b in books})
    moments = [
        datetime(2025, 1, 1, tzinfo=UTC),
        datetime(2025, 12, 20, 3, 4, 5, tzinfo=UTC),
        *(day_of(r) + timedelta(seconds=s) for r in (1, 2, revision, revision + 1) for s in (0, 1)),
        day_of(max(1, revision - 60)),
    ]
    for since in moments:
        expected = [b.work.id for b in books if b.updated_at >= since]
        assert catalogue.count(since) == len(expected)
        assert [b.work.id for b in catalogue.slice(0, ALL, since)] == expected
        assert [b.work.id for b in catalogue.slice(390, 700, since)] == expected[390:700]
    for book in books[::37]:
        assert catalogue.book(book.work.id) == book


@pytest.mark.parametrize(("scale", "revision"), [(1.0, 1), (3.0, 9)])
def test_shelves_cover_the_shop(scale: float, revision: int) -> None:
    shop = World(revision, scale).shop
    products = shop.slice(0, ALL)
    assert len(products) == shop.count() == sum(shop.count(name) for name, _ in shop.categories())
    assert len({p.slug for p in products}) == len({p.upc for p in products}) == len(products)
    assert shop.dead_count() == sum(shop.is_dead(p.number) for p in products)
    for name, _ in shop.categories():
        shelf = shop.slice(0, ALL, name)
        assert {p.work.category for p in shelf} == {name}
        assert shop.slice(3, 9, name) == shelf[3:9]
    assert all(shop.product(p.number) == p for p in products)
    assert all(1 <= p.stars <= 5 and p.stock >= 1 and p.pence > 0 for p in products)


def test_any_scale_starts_at_once_and_in_little_memory() -> None:
    tracemalloc.start()
    started = time.perf_counter()
    world = World(3, 10_000)
    count = world.catalogue.count()
    page = world.catalogue.slice(count - 32, count)
    since = world.catalogue.slice(2_000_000, 2_000_032, day_of(1))
    products = world.shop.slice(world.shop.count() - 20, world.shop.count())
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count > 3_800_000
    assert len(page) == 32
    assert len(products) == 20
    assert world.catalogue.count(day_of(2)) > len(since)
    assert page[-1].work.id == FIRST_ID + count - sum(not b.work.invented for b in world.catalogue.slice(0, 500)) - 1
    assert peak < 20_000_000
    assert seconds < 2


def test_generated_works_are_marked_and_have_titles_of_their_own() -> None:
    works = [invent(index, 0) for index in range(3000)]
    assert len({w.title for w in works}) == len(works)
    assert all(w.id >= 1_000_000 and SHELF in w.bookshelves and w.invented for w in works)
    far = [invent(index, 0).title for index in range(384_000, 384_010)]
    assert far[0].endswith("(Part 2)")


def test_small_scales_keep_some_books() -> None:
    assert 150 < World(1, 0.5).catalogue.count() < 250
    assert World(1, 0.001).catalogue.count() >= 10


@pytest.mark.parametrize(("revision", "scale"), [(0, 1.0), (10_001, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_impossible_worlds_are_refused_in_words(revision: int, scale: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        World(revision, scale)


def _key(title: str, author: str) -> tuple[str, str]:
    """Return a simple normalisation: title without subtitle, article, accents, punctuation; the author's last name."""
    plain = re.split(r"[\n;]|: |, or\b", without_accents(title).lower().replace("&", "and"))[0]
    plain = re.sub(r"^(?:the|an?) |, (?:the|an?)$", "", plain.strip())
    name = without_accents(author).lower()
    last = name.partition(",")[0] if "," in name else name.rpartition(" ")[2]
    return re.sub(r"[^a-z0-9]", "", plain), re.sub(r"[^a-z]", "", last.rpartition(" ")[2])


def test_matching_shop_and_catalogue_is_work_but_can_be_done() -> None:
    world = World(1)
    books = world.catalogue.slice(0, ALL)
    exact = {(b.work.title, b.work.authors[0].name): b.work.id for b in books}
    normal: dict[tuple[str, str], set[int]] = {}
    for book in books:
        normal.setdefault(_key(book.work.title, book.work.authors[0].name), set()).add(book.work.id)
    truth: list[tuple[Product, int]] = [(p, i) for p, i in world.matches() if i is not None]
    strangers = [p for p, i in world.matches() if i is None]
    assert len(truth) > 200
    assert len(strangers) == 24
    assert sum(exact.get((p.title, p.author)) == i for p, i in truth) < 0.25 * len(truth)
    assert sum(i in normal.get(_key(p.title, p.author), ()) for p, i in truth) > 0.9 * len(truth)
    assert not any(p.work.id in {b.work.id for b in books} for p in strangers)
