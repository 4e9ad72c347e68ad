"""Pages as people write them: what a card's rules find on them, and what is reported when they find nothing."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from dagster_project.ingest.cards import WebSourceCard
from dagster_project.ingest.chunk import Chunk, Kind
from dagster_project.ingest.errors import CardError
from dagster_project.ingest.fetch.pages import canonical, sitemap_urls
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.parse import read
from dagster_project.ingest.parse.page import Page, charset

PAGE = """<!doctype html><title> A  book </title><base href="/shop/">
<h1>War <em>and</em>
  Peace</h1><p class=price>&pound;51.77</p><p>one<br>two</p><script>var x = 1</script>
<ul><li>a</li><li>b</li><li></li></ul><a class=more href="next?p=2#top">more</a><img src=cover.jpg>
<table><tr><th>UPC<td>007<tr><th>Empty<td> </table><p class="star Three">x</p>
"""


def parse(
    body: str | bytes, fields: dict[str, Any], *, content_type: str = "text/html; charset=utf-8", **stream: Any
) -> Chunk:
    card = WebSourceCard.model_validate(
        {
            "source": "w",
            "base_url": "http://x",
            "start": ["/"],
            "pages": {"start": {}},
            "streams": [{"name": "s", "page": "start", "fields": fields, **stream}],
        }
    )
    meta = {
        "url": "http://x/dir/page.html",
        "status": 200,
        "content_type": content_type,
        "fetched_at": "2024-01-01T00:00:00+00:00",
    }
    obj = LandedObject("w", "s", "f", "http://x/dir/page.html", meta=meta)
    data = body.encode() if isinstance(body, str) else body
    (chunk,) = read(card, card.streams[0], obj, lambda: io.BytesIO(data))
    return chunk


def value(body: str, **rule: Any) -> str | None:
    chunk = parse(body, {"v": rule, "always": {"css": "title"}})
    (found,) = chunk.columns["v"].values.to_pylist()
    assert found is None or isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"css": "h1"}, "War and Peace"),
        ({"css": "h2"}, None),
        ({"css": ".price", "regex": r"([0-9.]+)"}, "51.77"),
        ({"css": ".price", "regex": r"€(.*)"}, None),
        ({"css": ".price", "regex": "£", "map": {"£": "GBP"}}, "GBP"),
        ({"css": ".star", "attr": "class", "regex": "star (.*)", "map": {"One": "1"}}, "Three"),
        ({"css": "a.more", "attr": "href"}, "http://x/shop/next?p=2#top"),
        ({"css": "img", "attr": "src"}, "http://x/shop/cover.jpg"),
        ({"css": "img", "attr": "alt"}, None),
        ({"css": "p:nth-of-type(2)"}, "one two"),
        ({"css": "li", "all": True}, '["a","b"]'),
        ({"css": "h2", "all": True}, None),
        ({"xpath": "//th[text()='UPC']/following-sibling::td"}, "007"),
        ({"xpath": "//th[text()='Empty']/following-sibling::td"}, None),
        ({"xpath": "//a/@href"}, "http://x/shop/next?p=2#top"),
        ({"xpath": "count(//li)"}, "3.0"),
        ({"xpath": "//h1"}, "War and Peace"),
        ({"xpath": "//li", "all": True}, '["a","b"]'),
        ({"const": "x"}, "x"),
        ({"from_page": "url"}, "http://x/dir/page.html"),
        ({"from_page": "title"}, "A book"),
        ({"from_page": "status"}, "200"),
        ({"from_page": "fetched_at"}, "2024-01-01T00:00:00+00:00"),
    ],
)
def test_rules(rule: dict[str, Any], expected: str | None) -> None:
    assert value(PAGE, **rule) == expected


def test_everything_is_of_no_stated_type_but_lists() -> None:
    chunk = parse(PAGE, {"a": {"css": "td"}, "b": {"css": "li", "all": True}, "c": {"css": "h5"}})
    assert [column.kind for column in chunk.columns.values()] == [Kind.UNTYPED, Kind.JSON, Kind.NULL]


def test_several_records_on_a_page_each_by_its_own_element() -> None:
    body = "<div class=r><b>1</b><i>x</i></div><div class=r><i>y</i></div><div class=r><b>3</b></div><b>no</b>"
    fields = {"b": {"css": "b", "required": True}, "i": {"css": "i"}, "x": {"xpath": ".//i"}, "own": {"regex": "^(.)"}}
    chunk = parse(body, fields, record="div.r")
    assert chunk.columns["b"].values.to_pylist() == ["1", "3"]
    assert chunk.columns["i"].values.to_pylist() == ["x", None]
    assert chunk.columns["x"].values.to_pylist() == ["x", None]
    assert chunk.columns["own"].values.to_pylist() == ["1", "3"]
    assert chunk.ordinals is not None
    assert chunk.ordinals.to_pylist() == [1, 3]
    assert [(r.ordinal, r.code) for r in chunk.refused] == [(2, "missing_field")]
    assert "b" in chunk.refused[0].message


def test_a_page_on_which_nothing_is_found_is_refused() -> None:
    chunk = parse("<title>Log in</title>", {"t": {"css": "h1"}, "u": {"from_page": "url"}})
    assert chunk.rows == 0
    assert [(r.code, "Log in" in r.message) for r in chunk.refused] == [("empty_page", True)]


@pytest.mark.parametrize("rule", [{"css": "a[["}, {"xpath": "//["}, {"css": "h1", "regex": "("}])
def test_rules_that_cannot_be_used_are_the_cards_mistake(rule: dict[str, Any]) -> None:
    with pytest.raises(CardError, match="is no"):
        parse(PAGE, {"v": rule})


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        ("é".encode(), "text/html; charset=utf-8", "utf-8"),
        (b'<meta charset="windows-1251">', "text/html", "cp1251"),
        (b"<meta http-equiv=content-type content='text/html; charset=iso-8859-1'>", None, "cp1252"),
        (b"<meta charset=utf-8>", "text/html; charset=ISO-8859-1", "cp1252"),
        (b"\xef\xbb\xbf<p>", "text/html; charset=windows-1251", "utf-8"),
        ("<p>é</p>".encode("utf-16"), None, "utf-16-le"),
        ("<p>caf\u00e9 cr\u00e8me</p>".encode("cp1252"), "text/html", "cp1252"),
        (b"<meta charset=klingon>", "text/html; charset=nonsense", "utf-8"),
        (b"<meta charset=utf-16><p>", None, "utf-8"),
    ],
)
def test_charsets(body: bytes, header: str | None, expected: str) -> None:
    assert charset(body, header) == expected


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0", b"<", b"<p" * 5000, b"<div>" * 3000 + b"x", b"\xff\xfe", b"<?xml version='1.0' encoding='x'?><p>"],
)
def test_broken_pages_break_nothing(body: bytes) -> None:
    chunk = parse(body, {"a": {"css": "div"}, "b": {"xpath": "//div"}})
    assert chunk.rows + len(chunk.refused) == 1


def test_links_are_whole_and_without_fragments() -> None:
    page = Page(
        b"<base href='http://y/d/'><a href='a#x'></a><a href='mailto:z'></a><a href='http://[bad'></a><a href=' /b '>",
        "http://x/",
    )
    assert page.links("a") == ["http://y/d/a", "http://y/b"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.COM:80", "http://example.com/"),
        ("https://x:443/a/../b/./c?q=1#f", "https://x/b/c?q=1"),
        ("http://x:8080/%7euser/%e9/a b", "http://x:8080/~user/%E9/a%20b"),
        ("http://x/?b=2&a=%2f", "http://x/?b=2&a=%2F"),
        ("http://x/日本", "http://x/%E6%97%A5%E6%9C%AC"),
        ("http://x/a/..", "http://x/"),
        ("http://[::1]:80/a", "http://[::1]/a"),
    ],
)
def test_a_url_has_one_spelling(url: str, expected: str) -> None:
    assert canonical(url) == expected
    assert canonical(expected) == expected


def test_sitemaps_are_read_whatever_is_around_them() -> None:
    text = (
        b"<urlset xmlns='s'><url><loc>\n http://x/a?b=1&amp;c=2 </loc></url><url><s:loc><![CDATA[http://x/d]]></s:loc>"
    )
    assert sitemap_urls(text, "m") == (["http://x/a?b=1&c=2", "http://x/d"], False)
    assert sitemap_urls(b"<sitemapindex><sitemap><loc>http://x/1</loc>", "m") == (["http://x/1"], True)
    assert sitemap_urls(b"<x:loc>\n <![CDATA[ http://[::1]/a]]>\n</x:loc><loc/><loc> </loc>", "m")[0] == [
        "http://[::1]/a"
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"<div>" * 200_000,
        b"<div/>" * 200_000,
        b"<x>" * 100_000 + b"<div></div>" * 100_000,
        b"<div a" * 200_000,
        b"<div class='" + b"<" * 200_000,
    ],
    ids=["deep", "as if closed", "unknown", "unended", "brackets"],
)
def test_a_page_nested_without_end_is_cut(body: bytes) -> None:
    started = time.process_time()
    page = Page(b"<a href='/first'>1</a>" + body, "http://x/")
    assert page.links("a[href]") == ["http://x/first"]
    assert time.process_time() - started < 5


def test_a_long_page_is_whole() -> None:
    item = (
        b"<div><p>one<br><img src=x><li>two<svg><path d='1'/><path d='2'/></svg><span><b>x</b></span></div><a name=y>"
    )
    page = Page(item * 20_000 + b"<a href='/last'>", "http://x/")
    assert not page.cut
    assert page.links("a[href]") == ["http://x/last"]


@pytest.mark.parametrize(
    "body",
    [
        b"<loc>" * 400_000,
        b"<loc>" + b" " * 2_000_000,
        b"<loc>" + b"a" * 2_000_000,
        b"<" * 2_000_000,
        b"<loc><![CDATA[" * 200_000,
        b'<!DOCTYPE x [<!ENTITY a "&b;&b;"><!ENTITY b "&a;&a;">]><loc>&a;</loc>' * 20_000,
    ],
    ids=["loc", "spaces", "long", "brackets", "cdata", "entities"],
)
def test_what_is_no_sitemap_is_soon_found_out(body: bytes) -> None:
    started = time.process_time()
    urls, _ = sitemap_urls(body, "m")
    assert time.process_time() - started < 3
    assert all(len(url) < 9000 for url in urls)
