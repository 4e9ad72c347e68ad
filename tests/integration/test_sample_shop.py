"""The bookshop over HTTP: the selectors for books.toscrape.com find every product that has a page."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import protego
import pytest
import requests
from selectolax.lexbor import LexborHTMLParser as HTMLParser
from selectolax.lexbor import LexborNode as Node

from dagster_project.sample.faults import SERVED_FOR, SLOW_SECONDS, Throttle
from dagster_project.sample.process import WorldInfo, ensure_running, stop
from dagster_project.sample.world import World


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorldInfo]:
    folder: Path = tmp_path_factory.mktemp("sample")
    yield ensure_running(folder, 1)
    stop(folder)


def _one(tree: HTMLParser | Node, selector: str) -> Node:
    found = tree.css(selector)
    assert len(found) == 1, (selector, len(found))
    return found[0]


class Crawl:
    """A crawler that follows the site's links and waits as it is asked to."""

    def __init__(self, start: str, next_selector: str = "li.next a") -> None:
        self.statuses: Counter[int] = Counter()
        self.products: dict[str, dict[str, Any]] = {}
        self.dead: list[str] = []
        self.waited: list[str] = []
        with requests.Session() as self._session:
            url: str | None = start
            while url:
                listing = HTMLParser(self._get(url).text)
                links = [a.attributes["href"] or "" for a in listing.css("article.product_pod h3 a")]
                assert 0 < len(links) <= 20
                for link in links:
                    self._product(urljoin(url, link))
                following = listing.css_first(next_selector)
                url = urljoin(url, following.attributes["href"] or "") if following else None

    def _get(self, url: str) -> requests.Response:
        for _ in range(3):
            answer = self._session.get(url, timeout=10)
            self.statuses[answer.status_code] += 1
            if answer.status_code != 429:
                return answer
            assert answer.headers["Retry-After"] == "1"
            self.waited.append(url)
            time.sleep(1)
        raise AssertionError(f"{url} is still throttled after the time it asked for")

    def _product(self, url: str) -> None:
        assert url not in self.products
        answer = self._get(url)
        if answer.status_code == 404:
            self.dead.append(url)
            return
        assert answer.status_code == 200
        page = HTMLParser(answer.text)
        rows = {_one(tr, "th").text(): _one(tr, "td").text() for tr in page.css("table.table-striped tr")}
        self.products[url] = {
            **rows,
            "title": _one(page, "div.product_main h1").text(),
            "price": _one(page, "div.product_main p.price_color").text(),
            "availability": _one(page, "div.product_main p.instock.availability").text(strip=True),
            "stars": (_one(page, "div.product_main p.star-rating").attributes["class"] or "").split()[-1],
            "category": page.css("ul.breadcrumb li")[2].text(strip=True),
            "description": _one(page, "#product_description + p").text(),
            "cover": urljoin(url, _one(page, "#product_gallery img").attributes["src"] or ""),
        }


@pytest.fixture(scope="module")
def crawl(server: WorldInfo) -> Crawl:
    return Crawl(server.bookshop_url)


def test_a_crawl_finds_what_the_world_counts(crawl: Crawl) -> None:
    world = World(1)
    assert len(crawl.products) == world.shop.count() - world.shop.dead_count()
    assert len(crawl.dead) == world.shop.dead_count() >= 3
    assert crawl.statuses[404] == len(crawl.dead)
    # Two products and a listing page answer 429 once; who waits gets them.
    assert len(crawl.waited) == crawl.statuses[429] == 3
    assert any("page-3.html" in url for url in crawl.waited)


def test_the_pages_say_what_the_world_says(crawl: Crawl) -> None:
    world = World(1)
    by_upc = {p.upc: p for p, _ in world.matches()}
    for page in crawl.products.values():
        product = by_upc[page["UPC"]]
        assert page["title"] == product.title
        assert page["Author"] == product.author
        assert re.fullmatch(r"£\d+\.\d\d", page["price"])
        assert page["price"] == page["Price (excl. tax)"] == product.price
        assert page["availability"] == f"In stock ({product.stock} available)" == page["Availability"]
        assert page["stars"] == ("One", "Two", "Three", "Four", "Five")[product.stars - 1]
        assert page["category"] == product.work.category
        assert page["Publisher"] == product.publisher
        assert int(page["Year"]) == product.year
        assert int(page["Pages"]) == product.pages
        assert page["Language"] in ("English", "French", "German", "Italian", "Latin", "Dutch", "Spanish", "Portuguese")
        assert "generated" in page["description"]
    assert any("&" in page["title"] for page in crawl.products.values())
    assert any("é" in page["title"] + page["Author"] for page in crawl.products.values())


def test_a_second_crawl_finds_the_same(server: WorldInfo, crawl: Crawl) -> None:
    again = Crawl(urljoin(server.bookshop_url, "catalogue/page-1.html"))
    assert again.products == crawl.products
    assert again.dead == crawl.dead
    assert again.waited == []


def test_categories_cover_the_shop(server: WorldInfo, crawl: Crawl) -> None:
    home = HTMLParser(requests.get(server.bookshop_url, timeout=10).text)
    links = [a.attributes["href"] or "" for a in home.css("div.side_categories ul ul a")]
    assert len(links) == len(World(1).shop.categories()) > 10
    found: dict[str, str] = {}
    for link in links:
        url: str | None = urljoin(server.bookshop_url, link)
        while url:
            page = HTMLParser(requests.get(url, timeout=10).text)
            name = _one(page, "div.page-header h1").text()
            found |= {urljoin(url, a.attributes["href"] or ""): name for a in page.css("article.product_pod h3 a")}
            following = page.css_first("li.next a")
            url = urljoin(url, following.attributes["href"] or "") if following else None
    assert found.keys() == crawl.products.keys() | set(crawl.dead)
    assert all(found[url] == page["category"] for url, page in crawl.products.items())
    everything = requests.get(urljoin(server.bookshop_url, "catalogue/category/books_1/page-2.html"), timeout=10)
    assert len(HTMLParser(everything.text).css("article.product_pod")) == 20


def test_covers_are_pictures_that_keep(server: WorldInfo, crawl: Crawl) -> None:
    covers = [page["cover"] for page in crawl.products.values()]
    assert len(set(covers)) == len(covers)
    for url in covers[:12]:
        answer = requests.get(url, timeout=10)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
        assert answer.content.endswith(b"IEND\xaeB`\x82")
        again = requests.get(url, headers={"If-None-Match": answer.headers["ETag"]}, timeout=10)
        assert again.status_code == 304
    wrong = re.sub(r"/media/cache/\w\w/\w\w/", "/media/cache/00/00/", covers[0])
    assert requests.get(wrong, timeout=10).status_code == 404


def test_pages_have_validators(crawl: Crawl, server: WorldInfo) -> None:
    for url in (next(iter(crawl.products)), server.bookshop_url, urljoin(server.bookshop_url, "catalogue/page-2.html")):
        answer = requests.get(url, timeout=10)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        for condition in (
            {"If-None-Match": answer.headers["ETag"]},
            {"If-Modified-Since": answer.headers["Last-Modified"]},
        ):
            assert requests.get(url, headers=condition, timeout=10).status_code == 304
        # The ETag decides where both are sent.
        both = {"If-None-Match": '"old"', "If-Modified-Since": answer.headers["Last-Modified"]}
        assert requests.get(url, headers=both, timeout=10).status_code == 200


def test_slow_pages_are_slow_and_others_do_not_wait_for_them(server: WorldInfo) -> None:
    shop = World(1).shop
    slow = next(p for p in shop.slice(0, 10**9) if shop.is_slow(p.number))
    quick = next(p for p in shop.slice(0, 10**9) if not shop.is_slow(p.number) and not shop.is_throttled(p.number))
    assert sum(shop.is_slow(p.number) for p in shop.slice(0, 10**9)) == 5
    seconds = requests.get(f"{server.bookshop_url}catalogue/{slow.slug}/index.html", timeout=10).elapsed.total_seconds()
    assert SLOW_SECONDS <= seconds < SLOW_SECONDS + 2
    seconds = requests.get(
        f"{server.bookshop_url}catalogue/{quick.slug}/index.html", timeout=10
    ).elapsed.total_seconds()
    assert seconds < SLOW_SECONDS


def test_robots_and_the_counter_of_who_ignores_it(server: WorldInfo) -> None:
    robots = requests.get(urljoin(server.bookshop_url, "/robots.txt"), timeout=10)
    assert robots.headers["Content-Type"].startswith("text/plain")
    rules = protego.Protego.parse(robots.text)
    assert rules.can_fetch(server.bookshop_url, "bindery")
    assert rules.crawl_delay("bindery") is None
    basket = urljoin(server.bookshop_url, "checkout/basket.html?add=1")
    assert not rules.can_fetch(basket, "bindery")
    health = urljoin(server.bookshop_url, "/healthz")
    before = requests.get(health, timeout=10).json()["disallowed_hits"]
    assert requests.get(basket, timeout=10).status_code == 200
    assert requests.get(health, timeout=10).json()["disallowed_hits"] == before + 1


@pytest.mark.parametrize(
    "path",
    [
        "catalogue/page-0.html",
        "catalogue/page-999.html",
        "catalogue/page-99999999999.html",
        "catalogue/nothing_1/index.html",
        "catalogue/x_999999999999/index.html",
        "catalogue/category/books/horror_99/index.html",
        "catalogue/category/books/wrong-name_2/index.html",
        "../../../etc/passwd",
        "%2e%2e/%2e%2e/healthz",
        "catalogue/%00/index.html",
        "catalogue/%ff%fe/index.html",
        "media/cache/aa/bb/" + "f" * 32 + ".png",
        "static/oscar/css/../../../../data/works.jsonl",
        "index.html/",
    ],
)
def test_what_is_not_there_is_a_404(server: WorldInfo, path: str) -> None:
    request = requests.Request("GET", server.bookshop_url).prepare()
    request.url = server.bookshop_url + path  # past the client's own clean-up of dots
    with requests.Session() as session:
        answer = session.send(request, timeout=10)
    assert answer.status_code == 404
    assert b"root:" not in answer.content


def test_the_address_without_slash_leads_to_the_shop(server: WorldInfo) -> None:
    answer = requests.get(server.bookshop_url.rstrip("/"), timeout=10)
    assert answer.url == server.bookshop_url
    assert answer.status_code == 200
    doubled = requests.get(f"{server.bookshop_url}/catalogue/page-2.html?a=%20", timeout=10)
    assert doubled.url == f"{server.bookshop_url}catalogue/page-2.html?a=%20"
    assert doubled.status_code == 200
    assert requests.get(urljoin(server.bookshop_url, "static/oscar/css/styles.css"), timeout=10).status_code == 200


def test_throttle_refuses_until_the_time_it_names_then_serves_then_starts_again() -> None:
    now = [100.0]
    throttle = Throttle(lambda: now[0])
    assert throttle.refuses("a")
    now[0] += 0.5
    assert throttle.refuses("a")
    assert throttle.refuses("b")
    now[0] += 0.5
    assert not throttle.refuses("a")
    now[0] += SERVED_FOR - 1
    assert not throttle.refuses("a")
    now[0] += 1
    assert throttle.refuses("a")
