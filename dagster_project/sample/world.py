"""The sample world as one object: a revision, a scale and a seed give the catalogue, the shop and the ratings.

Nothing here opens a socket or a file outside the package; the servers and the drop folder are made from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from dagster_project.sample.catalogue import Catalogue
from dagster_project.sample.invented import FIRST_ID
from dagster_project.sample.revisions import MAX_REVISION, Cast
from dagster_project.sample.shop import Product, Shop

DEFAULT_SEED = 20_260_112


class World:
    """One revision of the sample world, equal in every detail wherever it is built."""

    def __init__(self, revision: int = 1, scale: float = 1.0, seed: int = DEFAULT_SEED) -> None:
        """Build the world.

        Args:
            revision: 1 is the base; each later one changes, adds, withdraws and corrects something.
            scale: 1 is the real works alone, 10 has nine times as many generated ones beside them, 0.5 half of them.
            seed: another seed draws other prices, ratings and spellings.

        Raises:
            ValueError: a revision or scale that can't be.
        """
        if not 1 <= revision <= MAX_REVISION:
            raise ValueError(f"revision is {revision}; expected a whole number from 1 to {MAX_REVISION}")
        self.revision = revision
        self.scale = scale
        self.seed = seed
        self.cast = Cast(scale, seed)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The books of the catalogue API."""
        return Catalogue(self.cast, self.revision)

    @cached_property
    def shop(self) -> Shop:
        """The products of the bookshop."""
        return Shop(self.cast, self.revision)

    def matches(self) -> Iterator[tuple[Product, int | None]]:
        """Yield each listed product with the id of the catalogue's book that it is (None: only the shop has it).

        This is the truth that a matching by title and author is measured against; no page tells it.
        """
        for start in range(0, self.shop.count(), 1000):
            for product in self.shop.slice(start, start + 1000):
                work = product.work
                known = work.id >= FIRST_ID or self.cast.real(work.id) is not None
                yield product, work.id if known else None

    def summary(self) -> dict[str, Any]:
        """Return how much of everything there is. Counting ratings takes a second per hundred thousand."""
        from dagster_project.sample.drops import count_drops

        real = [book for book in self.catalogue.slice(0, len(self.cast.catalogued)) if not book.work.invented]
        languages = Counter(book.work.languages[0] for book in real)
        return {
            "revision": self.revision,
            "scale": self.scale,
            "books": self.catalogue.count(),
            "books_real": len(real),
            "books_withdrawn": sum(book.withdrawn for book in real),
            "languages": dict(languages.most_common()),
            "products": self.shop.count(),
            "products_reachable": self.shop.count() - self.shop.dead_count(),
            "products_dead": self.shop.dead_count(),
            "products_unknown_to_catalogue": sum(1 for _, book_id in self.matches() if book_id is None),
            "listing_pages": -(-self.shop.count() // 20),
            "categories": len(self.shop.categories()),
            **count_drops(self),
        }
