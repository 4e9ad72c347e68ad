"""The bookshop's URLs: which page, cover, error or trouble each path of the shop leads to.

Paths are relative to the shop's prefix and follow books.toscrape.com. There is no file system behind them.
"""

from __future__ import annotations

import re

from dagster_project.sample.covers import cover
from dagster_project.sample.faults import RETRY_AFTER, SLOW_SECONDS, Throttle
from dagster_project.sample.httpd import Response
from dagster_project.sample.pages import (
    STYLES,
    Listing,
    category_path,
    cover_path,
    listing_page,
    plain_page,
    product_page,
)
from dagster_project.sample.revisions import day_of
from dagster_project.sample.works import CATEGORIES
from dagster_project.sample.world import World

PER_PAGE = 20
THROTTLED_LISTING = "catalogue/page-3.html"
_PRODUCT = re.compile(r"catalogue/([a-z0-9-]+)_(\d{1,12})/(?:index\.html)?\Z")
_PAGE = re.compile(r"catalogue/page-([1-9]\d{0,8})\.html\Z")
_CATEGORY = re.compile(
    r"catalogue/category/(?:books/([a-z0-9-]+)_(\d{1,3})|books_1)/(?:index\.html|page-([1-9]\d{0,8})\.html)?\Z"
)
_COVER = re.compile(r"media/cache/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{16}([0-9a-f]{16})\.png\Z")
_DISALLOWED = re.compile(r"(checkout|search)(/|\Z)")


class Storefront:
    """The shop's site for one world."""

    def __init__(self, world: World, throttle: Throttle) -> None:
        self._shop = world.shop
        self._throttle = throttle
        self._listed_at = day_of(world.revision).timestamp()
        self.disallowed_hits = 0

    def handle(self, path: str) -> Response:
        """Answer a request for `path` (below the shop's prefix, without a slash in front)."""
        if path in ("", "index.html"):
            return self._listing("All products", "", "catalogue/", 1, None)
        if match := _PRODUCT.match(path):
            return self._product(path, int(match[2]))
        if match := _PAGE.match(path):
            if path == THROTTLED_LISTING and self._throttle.refuses(path):
                return _too_many()
            return self._listing("All products", "../", "", int(match[1]), None)
        if match := _CATEGORY.match(path):
            return self._category(match[1], match[2], int(match[3] or 1))
        if match := _COVER.match(path):
            return self._cover(path, int(match[1], 16))
        if path == "static/oscar/css/styles.css":
            return Response(200, STYLES, "text/css; charset=utf-8", last_modified=self._listed_at)
        if _DISALLOWED.match(path):
            # Allowed to answer, not allowed to be crawled: the counter shows in /healthz who did.
            self.disallowed_hits += 1
            return Response(200, plain_page("Basket", "Crawlers are asked to stay away from here.", "../"))
        return _not_found(path)

    def _listing(self, heading: str, root: str, prefix: str, page: int, category: str | None) -> Response:
        total = self._shop.count(category)
        pages = max(1, -(-total // PER_PAGE))
        if page > pages:
            return _not_found(f"page {page} of {pages}")
        products = self._shop.slice((page - 1) * PER_PAGE, page * PER_PAGE, category)
        listing = Listing(heading, root, prefix, page, pages, total, products, self._shop.categories())
        return Response(200, listing_page(listing), last_modified=self._listed_at)

    def _category(self, slug: str | None, number: str | None, page: int) -> Response:
        if slug is None or number is None:
            return self._listing("Books", "../../../", "", page, None)
        name = CATEGORIES[int(number) - 2] if 2 <= int(number) < len(CATEGORIES) + 2 else None
        if (
            name is None
            or not category_path(name, int(number)).endswith(f"/{slug}_{number}")
            or not self._shop.count(name)
        ):
            return _not_found("category")
        return self._listing(name, "../../../../", "", page, name)

    def _product(self, path: str, number: int) -> Response:
        product = self._shop.product(number)
        if product is None or path.split("/")[1] != product.slug or self._shop.is_dead(number):
            return _not_found(path)
        if self._shop.is_throttled(number) and self._throttle.refuses(path):
            return _too_many()
        body = product_page(product, CATEGORIES.index(product.work.category) + 2)
        delay = SLOW_SECONDS if self._shop.is_slow(number) else 0.0
        return Response(200, body, last_modified=product.changed_at.timestamp(), delay=delay)

    def _cover(self, path: str, number: int) -> Response:
        product = self._shop.product(number)
        if product is None or cover_path(product) != path:
            return _not_found(path)
        body = cover(number, product.title, product.author, CATEGORIES.index(product.work.category))
        return Response(200, body, "image/png", last_modified=day_of(1).timestamp())


def _not_found(what: str) -> Response:
    return Response(404, plain_page("404 Not Found", f"There is nothing here: {what[:200]}", "/shop/"))


def _too_many() -> Response:
    page = plain_page("429 Too Many Requests", f"Come back in {RETRY_AFTER} second.", "/shop/")
    return Response(429, page, headers={"Retry-After": str(RETRY_AFTER)})
