"""The shop side of the world: which products the bookshop lists in a revision, and every fact on their pages.

Only some works are sold, under spellings of the shop's own, beside a few real works that the catalogue doesn't have.
Title and author come from facts; price, stock, stars, UPC, publisher, edition year and number of pages are generated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from dagster_project.sample import invented
from dagster_project.sample.catalogue import spoken_name
from dagster_project.sample.draws import Draws, draw
from dagster_project.sample.revisions import Cast, day_of
from dagster_project.sample.spelling import shop_author, shop_title, slug_of
from dagster_project.sample.works import CATEGORIES, LANGUAGES, Work

FIRST_INVENTED_NUMBER = 100_000
DEAD_PAGES, SLOW_PAGES, THROTTLED_PAGES = 4, 5, 2
_PUBLISHERS = (
    "Quayside Classics", "Lantern & Oak", "Northgate Library", "Éditions du Phare", "Half Moon Press", "Sandbox House",
)  # fmt: skip
_DEAD_EVERY, _SLOW_EVERY, _THROTTLED_EVERY = 400, 100, 1000


@dataclass(frozen=True, slots=True)
class Product:
    """A book on the shop's shelf in one revision."""

    number: int
    work: Work
    title: str
    author: str
    pence: int
    stock: int
    changed_at: datetime
    """When its page last changed."""
    upc: str
    stars: int
    publisher: str
    year: int
    pages: int

    @property
    def slug(self) -> str:
        """The name of its page: `<slug>_<number>`."""
        return f"{slug_of(self.title)}_{self.number}"

    @property
    def language(self) -> str:
        """The language in words."""
        return LANGUAGES.get(self.work.languages[0], self.work.languages[0])

    @property
    def price(self) -> str:
        """The price as the page shows it."""
        return f"£{self.pence // 100}.{self.pence % 100:02d}"


class Shop:
    """The products of one revision."""

    def __init__(self, cast: Cast, revision: int) -> None:
        self._cast = cast
        self._revision = revision
        sold = [w for w in cast.catalogued if cast.sells(w)] + cast.shop_only
        sold.sort(key=lambda w: draw("shelf", w.id))
        self._numbers = {w.id: number for number, w in enumerate(sold, 1)}
        here = [w for w in sold if cast.born(w) <= revision and not (cast.withdrawn_in(w) or revision + 1) <= revision]
        here.sort(key=lambda w: (-cast.born(w), self._numbers[w.id]))  # the newest books stand on the first page
        self._real = [self._product_of_real(w) for w in here]
        self._by_number = {p.number: p for p in self._real}
        self._invented = (cast.invented_count(revision) + 1) // 2  # every other generated work is sold

    @cached_property
    def _shelves(self) -> dict[str, list[Product]]:
        shelves: dict[str, list[Product]] = {name: [] for name in CATEGORIES}
        for product in self._real:
            shelves[product.work.category].append(product)
        return shelves

    @cached_property
    def dead(self) -> frozenset[int]:
        """Numbers of listed real products whose page is a 404."""
        return self._troubled(0, DEAD_PAGES)

    @cached_property
    def slow(self) -> frozenset[int]:
        """Numbers of real products whose page takes its time."""
        return self._troubled(DEAD_PAGES, SLOW_PAGES)

    @cached_property
    def throttled(self) -> frozenset[int]:
        """Numbers of real products whose page answers 429 first."""
        return self._troubled(DEAD_PAGES + SLOW_PAGES, THROTTLED_PAGES)

    def _troubled(self, start: int, count: int) -> frozenset[int]:
        return frozenset(self._numbers[work_id] for work_id in self._cast.fault_order[start : start + count])

    def is_dead(self, number: int) -> bool:
        """Tell whether a product is listed but has no page."""
        return number in self.dead or self._every(number, _DEAD_EVERY)

    def is_slow(self, number: int) -> bool:
        """Tell whether a product's page takes its time."""
        return number in self.slow or self._every(number, _SLOW_EVERY)

    def is_throttled(self, number: int) -> bool:
        """Tell whether a product's page answers 429 first."""
        return number in self.throttled or self._every(number, _THROTTLED_EVERY)

    def _every(self, number: int, step: int) -> bool:
        return number >= FIRST_INVENTED_NUMBER and (number - FIRST_INVENTED_NUMBER) % step == step - 1 - step // 10

    def count(self, category: str | None = None) -> int:
        """Return how many products are listed, in all or in one category."""
        if category is None:
            return len(self._real) + self._invented
        return len(self._shelves[category]) + len(self._invented_in(category))

    def dead_count(self) -> int:
        """Return how many listed products have no page."""
        offset = _DEAD_EVERY // 10
        return sum(1 for p in self._real if p.number in self.dead) + (self._invented + offset) // _DEAD_EVERY

    def slice(self, start: int, stop: int, category: str | None = None) -> list[Product]:
        """Return the products from position `start` to before `stop`, of all or of one category."""
        real = self._real if category is None else self._shelves[category]
        numbers = range(self._invented) if category is None else self._invented_in(category)
        places = numbers[max(0, start - len(real)) : max(0, stop - len(real))]
        return real[start:stop] + [self._product_of_invented(place) for place in places]

    def product(self, number: int) -> Product | None:
        """Return a listed product by its number."""
        if FIRST_INVENTED_NUMBER <= number < FIRST_INVENTED_NUMBER + self._invented:
            return self._product_of_invented(number - FIRST_INVENTED_NUMBER)
        return self._by_number.get(number)

    def categories(self) -> list[tuple[str, int]]:
        """Return (name, number of its page) of the categories that hold something."""
        return [(name, place) for place, name in enumerate(CATEGORIES, 2) if self.count(name)]

    def _invented_in(self, category: str) -> range:
        # The generated product number n is work 2n, whose category is number n of the cycle.
        return range(CATEGORIES.index(category), self._invented, len(CATEGORIES))

    def _product_of_real(self, work: Work) -> Product:
        return self._product(self._numbers[work.id], work, self._cast.born(work))

    def _product_of_invented(self, place: int) -> Product:
        index = 2 * place
        born = 1 if index < self._cast.invented_at_first else self._cast.invented_born(index)
        return self._product(FIRST_INVENTED_NUMBER + place, self._cast.invent(index), born)

    def _product(self, number: int, work: Work, born: int) -> Product:
        seed = self._cast.seed
        priced, stocked = self._changed("price", work.id, born, 8), self._changed("stock", work.id, born, 6)
        draws = Draws(seed, "product", work.id)
        pence = 499 + draws.below(5000)
        if priced > born:
            pence = pence * (80 + draw(seed, "factor", work.id, priced) % 45) // 100 + 1
        return Product(
            number=number,
            work=work,
            title=shop_title(work, seed),
            author=shop_author(work, seed),
            pence=pence,
            stock=1 + draw(seed, "pieces", work.id, stocked) % 22,
            changed_at=day_of(max(priced, stocked)),
            upc=f"{draws.next():016x}",
            stars=1 + (draws.below(5) + draws.below(5) + 1) // 2,
            publisher=draws.pick(_PUBLISHERS),
            year=1988 + draws.below(36),
            pages=96 + draws.below(620),
        )

    def _changed(self, what: str, work_id: int, born: int, one_in: int) -> int:
        """Return the last revision up to now in which something about a product changed."""
        seed = self._cast.seed
        return next((r for r in range(self._revision, born, -1) if draw(seed, what, work_id, r) % one_in == 0), born)


def description_of(product: Product) -> str:
    """Return the product's description, made from the facts of the work alone."""
    work = product.work
    author = work.authors[0]
    years = f" ({author.birth_year}-{author.death_year})" if author.birth_year and author.death_year else ""
    title = " ".join(work.title.split())
    themes = [" / ".join(part for part in s.split(" -- ") if part != "Fiction") for s in work.subjects[:5]]
    parts = [
        f"{title} is a book by {spoken_name(author.name)}{years}, shelved under {work.category.lower()}.",
        f"Readers find in it: {'; '.join(themes)}.",
        f"This edition is in {product.language}.",
    ]
    if work.translators:
        parts.append(f"Translated by {' and '.join(spoken_name(p.name) for p in work.translators)}.")
    kind = "an invented book" if work.id >= invented.FIRST_ID else "catalogue facts"
    parts.append(f"(Sample description, generated from {kind}.)")
    return " ".join(parts)
