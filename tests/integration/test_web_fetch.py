"""The crawl against real HTTP on loopback: order, manners, 304, kills, dead pages."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project import warehouse
from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import WebSourceCard
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.landing.archive import Archive
from dagster_project.ingest.landing.log import LandingLog
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.parse import read
from dagster_project.ingest.runtime import Runtime
from dagster_project.settings import Settings

Reply = tuple[int, dict[str, str], bytes]


class Site:
    """A site of a few pages, as a dict that tests change while it runs."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[Any], Reply] | Reply] = {}
        self.asked: list[str] = []
        self.agents: set[str] = set()
        self.times: list[float] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append(self.path)
                site.times.append(time.monotonic())
                site.agents.add(self.headers["User-Agent"])
                found = site.pages.get(self.path, (404, {}, b"gone"))
                status, headers, body = found(self) if callable(found) else found
                if headers.get("ETag") and self.headers.get("If-None-Match") == headers["ETag"]:
                    status, body = 304, b""
                self.send_response(status)
                for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def page(self, path: str, html: str, *, etag: str | None = None, **headers: str) -> None:
        self.pages[path] = (200, {**({"ETag": etag} if etag else {}), **headers}, html.encode())

    def take_asked(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def runtime(settings: Settings, tmp_path: Path) -> Runtime:
    class NoReferences:
        def resolve_setting(self, name: str) -> str:
            raise AssertionError(name)

        resolve_secret = resolve_setting

    return Runtime(
        connect=lambda: warehouse.connect(settings, "loader"),
        landing=str(tmp_path / "landing"),
        resolver=NoReferences(),
        contact="me@example.org",
        base=tmp_path,
    )


def card(site: Site, **changes: Any) -> WebSourceCard:
    crawl = {"delay": 0, **changes.pop("crawl", {})}
    values: dict[str, Any] = {
        "source": "shop",
        "base_url": site.url,
        "start": ["/"],
        "start_kind": "list",
        "pages": {
            "list": {"follow": [{"css": "a.next", "to": "list"}, {"css": "a.book", "to": "book"}]},
            "book": {},
        },
        "crawl": crawl,
        "http_retry": {"attempts": 2, "max_wait": "1s"},
        "streams": [
            {
                "name": "books",
                "page": "book",
                "primary_key": "url",
                "write": "merge",
                "fields": {"title": {"css": "h1"}, "url": {"from_page": "url"}},
            }
        ],
        **changes,
    }
    return WebSourceCard(**values)


def shop(site: Site, pages: int = 3, books: int = 2) -> None:
    for number in range(1, pages + 1):
        path = "/" if number == 1 else f"/p{number}"
        links = "".join(f"<a class=book href='/b{number}{each}'>x</a>" for each in range(books))
        following = f"<a class=next href='p{number + 1}'>next</a>" if number < pages else ""
        site.page(path, f"<html>{following}{links}</html>", etag=f'"{path}"')
        for each in range(books):
            site.page(f"/b{number}{each}", f"<h1>Book {number}{each}</h1>", etag=f'"b{number}{each}"')


def landed(runtime: Runtime, source_card: WebSourceCard, stream: str = "books") -> list[list[LandedObject]]:
    """Give the objects of every sealed batch."""
    with runtime.connect() as connection:
        log = LandingLog(connection)
        return [list(log.objects(b.batch_id)) for b in log.sealed_since(source_card.source, stream, "", 0)]


def rows(runtime: Runtime, source_card: WebSourceCard, objects: list[LandedObject]) -> list[dict[str, Any]]:
    archive = Archive(runtime.landing)
    found = []
    for obj in objects:
        opener = functools.partial(archive.open, obj.uri or "", obj.sha256)
        for chunk in read(source_card, source_card.streams[0], obj, opener):
            names = list(chunk.columns)
            values = zip(*(chunk.columns[name].values.to_pylist() for name in names), strict=True)
            found += [dict(zip(names, row, strict=True)) for row in values]
    return found


def test_a_crawl_lands_each_page_once_in_the_order_of_the_links(site: Site, runtime: Runtime) -> None:
    shop(site)
    source = card(site, crawl={"concurrency": 4})
    report = fetch_source(source, runtime)
    (objects,) = landed(runtime, source)
    titles = [row["title"] for row in rows(runtime, source, objects)]
    assert titles == ["Book 10", "Book 11", "Book 20", "Book 21", "Book 30", "Book 31"]
    assert len(site.asked) == len(set(site.asked)) == 1 + 3 + 6
    assert list(report.streams) == ["books"]
    assert report.streams["books"].objects == 6
    assert all("me@example.org" in agent for agent in site.agents)
    assert batch_stats(runtime)["complete"] is True


def batch_stats(runtime: Runtime, stream: str = "books") -> dict[str, Any]:
    with runtime.connect() as connection:
        newest = LandingLog(connection).newest_sealed("shop", stream, "")
        assert newest is not None
        return newest.stats


def test_unchanged_pages_are_not_sent_again_and_still_followed(site: Site, runtime: Runtime) -> None:
    shop(site)
    source = card(site)
    fetch_source(source, runtime)
    site.page("/b10", "<h1>Book 10, revised</h1>", etag='"new"')
    site.take_asked()
    report = fetch_source(source, runtime)
    assert len(site.take_asked()) == 10
    first, second = landed(runtime, source)
    assert [obj.sha256 for obj in second[1:]] == [obj.sha256 for obj in first[1:]]
    assert second[0].sha256 != first[0].sha256
    assert [bool(obj.meta.get("not_modified")) for obj in second] == [False] + [True] * 5
    assert report.streams["books"].unchanged == 5


def test_dead_pages_are_counted_and_the_crawl_goes_on(site: Site, runtime: Runtime) -> None:
    shop(site)
    del site.pages["/b20"]
    source = card(site)
    report = fetch_source(source, runtime)
    assert report.streams["books"].not_found == 1
    assert any("/b20" in warning for warning in report.streams["books"].warnings)
    assert len(landed(runtime, source)[0]) == 5
    assert batch_stats(runtime)["complete"] is True


def test_a_page_that_answers_500_keeps_the_crawl_from_being_complete(site: Site, runtime: Runtime) -> None:
    shop(site)
    site.pages["/b20"] = (500, {}, b"broken")
    report = fetch_source(card(site), runtime)
    assert report.streams["books"].retries == 1
    assert batch_stats(runtime)["complete"] is False
    assert batch_stats(runtime)["failed"] == 1


def test_too_many_dead_pages_fail_the_crawl(site: Site, runtime: Runtime) -> None:
    shop(site)
    for path in ("/b10", "/b20", "/b30"):
        del site.pages[path]
    with pytest.raises(SourceError, match=r"3 of 9 pages failed.*max_dead_rate: 0.2"):
        fetch_source(card(site, crawl={"max_dead_rate": 0.2}), runtime)
    assert landed(runtime, card(site)) == []


def test_a_dead_start_page_fails_the_crawl(site: Site, runtime: Runtime) -> None:
    with pytest.raises(SourceError, match="start page"):
        fetch_source(card(site), runtime)


def test_a_killed_crawl_goes_on_where_it_stopped(site: Site, runtime: Runtime) -> None:
    shop(site, pages=4)
    source = card(site, crawl={"concurrency": 3})

    class Killed(BaseException):
        pass

    count = 0

    def kill(stage: str) -> None:
        nonlocal count
        count += stage == "landed"
        if count == 7:
            raise Killed

    runtime.checkpoint = kill
    with pytest.raises(Killed):
        fetch_source(source, runtime)
    assert landed(runtime, source) == []
    site.take_asked()
    runtime.checkpoint = lambda _stage: None
    report = fetch_source(source, runtime)
    assert report.streams["books"].resumed
    again = [path for path in site.take_asked() if path != "/robots.txt"]
    assert len(again) == 12 - 7
    (objects,) = landed(runtime, source)
    assert len(objects) == 8
    assert {row["title"] for row in rows(runtime, source, objects)} == {
        f"Book {p}{b}" for p in range(1, 5) for b in (0, 1)
    }


def test_robots_rules_are_obeyed(site: Site, runtime: Runtime) -> None:
    shop(site)
    site.pages["/robots.txt"] = (
        200,
        {"Content-Type": "text/plain"},
        b"User-agent: *\nDisallow: /b2\nCrawl-delay: 0.05\n",
    )
    site.times.clear()
    report = fetch_source(card(site, crawl={"concurrency": 4}), runtime)
    assert not [path for path in site.asked if path.startswith("/b2")]
    assert any("robots.txt" in warning for warning in report.streams["books"].warnings)
    pauses = [later - earlier for earlier, later in zip(site.times[1:], site.times[2:], strict=False)]
    assert min(pauses) > 0.03
    assert batch_stats(runtime)["complete"] is False


@pytest.mark.parametrize("rule", ["Crawl-delay: 99999999999", "Request-rate: 1/9000s"])
def test_robots_that_asks_for_a_crawl_without_end_is_told(site: Site, runtime: Runtime, rule: str) -> None:
    shop(site, pages=1)
    site.pages["/robots.txt"] = (200, {"Content-Type": "text/plain"}, f"User-agent: *\n{rule}\n".encode())
    with pytest.raises(SourceError, match=r"its robots\.txt asks for .* s between two requests"):
        fetch_source(card(site), runtime)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_robots_refused_or_missing_allows_everything(site: Site, runtime: Runtime, status: int) -> None:
    shop(site, pages=1)
    site.pages["/robots.txt"] = (status, {}, b"no")
    assert fetch_source(card(site), runtime).streams["books"].objects == 2


def test_robots_that_fails_holds_the_crawl_off(site: Site, runtime: Runtime) -> None:
    shop(site)
    site.pages["/robots.txt"] = (503, {}, b"busy")
    with pytest.raises(SourceError, match="left alone") as caught:
        fetch_source(card(site), runtime)
    assert caught.value.transient
    assert set(site.asked) == {"/robots.txt"}


def test_links_elsewhere_are_ignored_and_redirects_elsewhere_refused(site: Site, runtime: Runtime) -> None:
    site.page(
        "/",
        "<a class=book href='http://elsewhere.example/b'>x</a><a class=book href='/away'>x</a>"
        "<a class=book href='mailto:x@y'>x</a><a class=book href='/ok#a'>x</a><a class=book href='/./ok#b'>x</a>",
    )
    site.pages["/away"] = (302, {"Location": "http://elsewhere.example/"}, b"")
    site.page("/ok", "<h1>Fine</h1>")
    report = fetch_source(card(site), runtime)
    assert report.streams["books"].objects == 1
    assert any("elsewhere.example" in warning for warning in report.streams["books"].warnings)


def test_two_urls_that_redirect_to_one_page_land_it_once(site: Site, runtime: Runtime) -> None:
    site.page("/", "<a class=book href='/old'>x</a><a class=book href='/new'>x</a>")
    site.pages["/old"] = (301, {"Location": "/new"}, b"")
    site.page("/new", "<h1>Only once</h1>")
    report = fetch_source(card(site), runtime)
    assert report.streams["books"].objects == 1


def test_bounds_end_the_crawl_and_say_so(site: Site, runtime: Runtime) -> None:
    shop(site, pages=5)
    report = fetch_source(card(site, crawl={"max_pages": 4}), runtime)
    assert any("max_pages" in warning for warning in report.streams["books"].warnings)
    assert batch_stats(runtime)["complete"] is False
    assert len([path for path in site.take_asked() if path != "/robots.txt"]) == 4
    fetch_source(card(site, crawl={"max_depth": 1}), runtime)
    assert "/p3" not in site.asked


def test_a_site_exactly_as_large_as_the_bound_is_complete(site: Site, runtime: Runtime) -> None:
    shop(site, pages=1)
    fetch_source(card(site, crawl={"max_pages": 3}), runtime)
    assert batch_stats(runtime)["complete"] is True


@pytest.mark.parametrize(
    ("html", "word"),
    [
        ("<title>404 Not Found</title><h1>Oops</h1>", "soft 404"),
        ("<form><input type=password></form>", "login wall"),
        ("<title>Just a moment...</title><div class='cf-challenge'></div>", "captcha"),
    ],
)
def test_pages_that_are_not_what_they_seem_are_reported(site: Site, runtime: Runtime, html: str, word: str) -> None:
    shop(site, pages=1)
    site.page("/b10", html)
    report = fetch_source(card(site), runtime)
    assert any(word in warning for warning in report.streams["books"].warnings)
    assert batch_stats(runtime)["complete"] is False


def test_a_sitemap_gives_pages_without_links(site: Site, runtime: Runtime) -> None:
    shop(site, pages=1)
    inner = "".join(f"<url><loc> {site.url}/b1{each}?a=1&amp;b=2 </loc></url>" for each in range(2))
    for each in range(2):
        site.page(f"/b1{each}?a=1&b=2", f"<h1>From the map {each}</h1>")
    site.pages["/sitemap.xml"] = (
        200,
        {},
        f"<sitemapindex xmlns='x'><sitemap><loc>{site.url}/inner.xml</loc></sitemap></sitemapindex>".encode(),
    )
    site.pages["/inner.xml"] = (200, {}, f"<urlset>{inner}</urlset>".encode())
    report = fetch_source(card(site, sitemap="/sitemap.xml", sitemap_kind="book"), runtime)
    assert report.streams["books"].objects == 4


def test_a_host_that_asks_to_wait_longer_than_allowed_ends_the_fetch(site: Site, runtime: Runtime) -> None:
    shop(site)
    site.pages["/b20"] = (429, {"Retry-After": "3600"}, b"slow down")
    with pytest.raises(SourceError) as caught:
        fetch_source(card(site), runtime)
    assert caught.value.transient
    site.page("/b20", "<h1>Book 20</h1>")
    site.take_asked()
    assert fetch_source(card(site), runtime).streams["books"].resumed
    assert "/" not in site.asked


def test_a_limit_ends_after_so_many_pages(site: Site, runtime: Runtime) -> None:
    shop(site, pages=4, books=4)
    report = fetch_source(card(site), runtime, limit=2)
    assert 2 <= report.streams["books"].objects <= 3


def test_a_page_in_another_charset_keeps_its_letters(site: Site, runtime: Runtime) -> None:
    site.page("/", "<a class=book href='/b'>x</a>")
    site.pages["/b"] = (
        200,
        {"Content-Type": "text/html"},
        "<meta charset=windows-1251><h1>Анна Каренина</h1>".encode("cp1251"),
    )
    source = card(site)
    fetch_source(source, runtime)
    assert rows(runtime, source, landed(runtime, source)[0])[0]["title"] == "Анна Каренина"


def test_start_paths_are_below_the_base_url(site: Site, runtime: Runtime) -> None:
    site.page("/shop/", "<a class=book href='b'>x</a>")
    site.page("/shop/b", "<h1>Below</h1>")
    for base in (f"{site.url}/shop", f"{site.url}/shop/"):
        assert fetch_source(card(site, base_url=base), runtime, full_refresh=True).streams["books"].objects == 1


NEXT, BOOK = {"css": "a.next", "to": "list"}, {"css": "a.zzz", "to": "book"}


def test_a_rule_that_leads_nowhere_is_told(site: Site, runtime: Runtime) -> None:
    shop(site)
    said = "`a.zzz` (`pages.list.follow`) matched no link on 3 pages of kind 'list': no page of kind 'book' was found"
    source = card(site, pages={"list": {"follow": [NEXT, BOOK]}, "book": {}})
    for _ in range(2):  # the second time every page is unchanged
        assert fetch_source(source, runtime).streams["books"].warnings == [said]
    found = pipeline.look(source, runtime, "books", 3)
    assert (found.rows, found.warnings) == ([], [said])
    kinds = {"list": {"follow": [{"css": ".none", "to": "shelf"}]}, "shelf": {"follow": [BOOK]}, "book": {}}
    (said,) = fetch_source(card(site, pages=kinds), runtime).streams["books"].warnings
    assert said == (
        "`.none` (`pages.list.follow`) matched no link on 1 page of kind 'list': no page of kind 'book' was found"
    )


def test_rules_without_a_match_are_fine_where_the_pages_are_found(site: Site, runtime: Runtime) -> None:
    shop(site, pages=1)  # the only page of the list has no next one, and a layout that isn't there is no loss
    pages = {"list": {"follow": [NEXT, BOOK, {"css": "a.book", "to": "book"}]}, "book": {"follow": [NEXT]}}
    assert fetch_source(card(site, pages=pages), runtime).streams["books"].warnings == []
    shop(site)
    bounded = card(site, pages={"list": {"follow": [NEXT, BOOK]}, "book": {}}, crawl={"max_pages": 1})
    (said,) = fetch_source(bounded, runtime, full_refresh=True).streams["books"].warnings
    assert "ended early" in said, "the next pages may have them"


def test_records_and_fields_that_nothing_matches_are_told(site: Site, runtime: Runtime) -> None:
    site.page("/", "<li><b>a</b><i>1</i></li><li><b>b</b><i></i></li>")
    fields = {"name": {"css": "b"}, "price": {"css": "span.prce"}, "note": {"css": "i"}}
    stream: dict[str, Any] = {"name": "items", "page": "list", "record": "li", "fields": fields}
    plain: dict[str, Any] = {"pages": {"list": {}}}
    found = pipeline.look(card(site, **plain, streams=[stream]), runtime, "items", 5)
    assert (len(found.rows), found.warnings) == (2, [])
    assert found.notes == ["`span.prce` found no value for 'price' in any of these 2 rows"]
    assert pipeline.look(card(site, **plain, streams=[stream]), runtime, "items", 1).notes == [], "one row tells little"
    wrong = card(site, **plain, streams=[{**stream, "record": "li.item"}])
    said = ["`li.item` (`record`) matched nothing on 1 page"]
    assert pipeline.look(wrong, runtime, "items", 5).warnings == said
    assert pipeline.run_source(wrong, runtime).load.streams["items"].warnings == said
