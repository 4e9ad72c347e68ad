"""Paginators: the requests that each kind asks one after another, its end, its state, and the guard over all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from dagster_project.ingest.cards.rest import Paginator as PaginatorCard
from dagster_project.ingest.cards.rest import RestApiSourceCard
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.message import Request
from dagster_project.ingest.fetch.network import ForbiddenTarget
from dagster_project.ingest.fetch.paginators import Guard, Page, PageRequest, fingerprint_of, make_paginator

BASE = "http://api.example/v1/books"
ADAPTER: TypeAdapter[PaginatorCard] = TypeAdapter(PaginatorCard)


def card(**fields: Any) -> PaginatorCard:
    return ADAPTER.validate_python(fields)


def page(document: Any = None, url: str = BASE, **headers: str) -> Page:
    return Page(url, {name.replace("_", "-"): value for name, value in headers.items()}, document)


def walk(paginator: PaginatorCard, pages: list[tuple[Page, int]], request: PageRequest | None = None) -> list[str]:
    """Give the URLs asked; each step goes through its JSON state into a paginator of its own, as after a kill."""
    pager = make_paginator(paginator)
    following: PageRequest | None = pager.first(request or PageRequest(BASE, {"lang": "en"}))
    asked = []
    left = list(pages)
    while following is not None:
        asked.append(Request(following.url, params=following.params).full_url.removeprefix(BASE))
        state = json.loads(json.dumps(pager.state()))
        pager = make_paginator(paginator)
        assert pager.restore(state) == following
        following = pager.next(*left.pop(0))
    assert left == []
    return asked


def test_single_page() -> None:
    assert walk(card(type="single_page"), [(page([1]), 1)]) == ["?lang=en"]


@pytest.mark.parametrize("end", [{"next": None}, {"next": ""}, {}, {"next": False}])
def test_json_link_goes_on_to_relative_and_whole_urls(end: dict[str, Any]) -> None:
    pages = [
        (page({"next": "?page=2"}), 5),
        (page({"next": f"{BASE}?page=3&lang=en"}), 5),
        (page({"next": "/v1/books?page=4"}), 5),
        (page(end), 5),
    ]
    expected = ["?lang=en", "?page=2", "?page=3&lang=en", "?page=4"]
    assert walk(card(type="json_link", next_url_path="next"), pages) == expected


def test_json_link_follows_a_path_and_refuses_what_is_no_text() -> None:
    pager = make_paginator(card(type="json_link", next_url_path="links.next.href"))
    pager.first(PageRequest(BASE))
    following = pager.next(page({"links": {"next": {"href": "x"}}}), 1)
    assert following is not None
    assert following.url == "http://api.example/v1/x"
    with pytest.raises(SourceError, match=r"`links.next.href` is no text: \['a'\]"):
        pager.next(page({"links": {"next": {"href": ["a"]}}}), 1)
    with pytest.raises(ForbiddenTarget, match="is no URL"):
        pager.next(page({"links": {"next": {"href": "http://[::1"}}}), 1)


def test_header_link() -> None:
    first = page([1], Link='<?page=9>; rel="last", <http://api.example/v1/books?page=2>; rel="prefetch next"')
    assert walk(card(type="header_link"), [(first, 1), (page([1], Link='<?page=1>; rel="prev"'), 1)]) == [
        "?lang=en",
        "?page=2",
    ]
    assert walk(card(type="header_link"), [(page([1]), 1)]) == ["?lang=en"]


def test_page_number_ends_at_an_empty_page() -> None:
    pages = [(page(), 20), (page(), 3), (page(), 0)]
    assert walk(card(type="page_number", size_param="size", size=20), pages) == [
        "?lang=en&size=20&page=1",
        "?lang=en&size=20&page=2",
        "?lang=en&size=20&page=3",
    ]


@pytest.mark.parametrize(("base", "numbers"), [(1, [1, 2]), (0, [0, 1])])
def test_page_number_ends_at_the_total(base: int, numbers: list[int]) -> None:
    kind = card(type="page_number", page_param="p", base_page=base, total_path="pages")
    pages = [(page({"pages": 2}), 5), (page({"pages": "2"}), 5)]
    assert walk(kind, pages) == [f"?lang=en&p={n}" for n in numbers]


def test_offset_counts_the_records_that_came() -> None:
    pages = [(page(), 10), (page(), 10), (page(), 4)]
    assert walk(card(type="offset", limit=10), pages) == [
        "?lang=en&limit=10&offset=0",
        "?lang=en&limit=10&offset=10",
        "?lang=en&limit=10&offset=20",
    ]


def test_offset_with_a_total_trusts_no_short_page() -> None:
    kind = card(type="offset", limit=100, limit_param="count", offset_param="start", total_path="total")
    pages = [(page({"total": 25}), 10), (page({"total": 25}), 10), (page({"total": 25}), 5)]
    assert walk(kind, pages) == [f"?lang=en&count=100&start={n}" for n in (0, 10, 20)]


def test_offset_that_ends_before_its_total_says_so() -> None:
    pager = make_paginator(card(type="offset", limit=10, total_path="total"))
    pager.first(PageRequest(BASE))
    assert pager.next(page({"total": 25}), 0) is None
    assert pager.warning == f"{BASE} promised 25 records and ended after 0"


@pytest.mark.parametrize("kind", ["page_number", "offset"])
@pytest.mark.parametrize("total", [None, "many", [1]])
def test_a_total_that_is_no_number_is_said(kind: str, total: Any) -> None:
    pager = make_paginator(card(type=kind, total_path="total", **({"limit": 5} if kind == "offset" else {})))
    pager.first(PageRequest(BASE))
    with pytest.raises(SourceError, match="`total_path` should lead to a whole number"):
        pager.next(page({"total": total}), 5)


def test_cursor_as_a_parameter() -> None:
    kind = card(type="cursor", cursor_path="meta.cursor", cursor_param="after")
    pages = [(page({"meta": {"cursor": "a b"}}), 1), (page({"meta": {"cursor": 7}}), 1), (page({"meta": {}}), 1)]
    assert walk(kind, pages) == ["?lang=en", "?lang=en&after=a+b", "?lang=en&after=7"]


def test_cursor_in_the_body() -> None:
    pager = make_paginator(card(type="cursor", cursor_path="cursor", cursor_body_path="page.after"))
    body = {"query": "books", "page": {"size": 10}}
    assert pager.first(PageRequest(BASE, body=body)).body == body
    following = pager.next(page({"cursor": "x"}), 1)
    assert following is not None
    assert following.body == {"query": "books", "page": {"size": 10, "after": "x"}}
    assert body == {"query": "books", "page": {"size": 10}}
    assert pager.next(page({"cursor": None}), 1) is None


def test_a_cursor_that_is_no_token_is_said() -> None:
    pager = make_paginator(card(type="cursor", cursor_path="cursor"))
    pager.first(PageRequest(BASE))
    with pytest.raises(SourceError, match="neither text nor number"):
        pager.next(page({"cursor": {"a": 1}}), 1)


def test_header_cursor() -> None:
    kind = card(type="header_cursor", cursor_header="X-Next", cursor_param="c")
    assert walk(kind, [(page(X_Next="t1"), 1), (page(), 1)]) == ["?lang=en", "?lang=en&c=t1"]


ON_PAGE_1 = "on page 1, so that only this page was read"
LINK = {"type": "json_link", "next_url_path": "links.next.href"}
TOKEN = {"type": "cursor", "cursor_path": "meta.next.token"}
BY_HEADER = {"type": "header_cursor", "cursor_header": "X-Next"}


@pytest.mark.parametrize(
    ("kind", "first", "said"),
    [
        (TOKEN, page({"payload": [], "meta": {"continuation": 1}}), "`meta` has the keys [continuation]"),
        (TOKEN, page({"payload": [], "paging": {}}), "the answer has the keys [paging, payload]"),
        (TOKEN, page([1]), "the answer is a list"),
        (TOKEN, page(None), "the answer is no JSON object"),
        (TOKEN, page({"meta": "x"}), "`meta` is no JSON object"),
        (TOKEN, page({str(n): n for n in range(10, 30)}), "[10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, ...]"),
        (LINK, page({"links": {"self": "x"}}), "no URL at `links.next.href` on page 1"),
        ({**LINK, "next_url_path": "links[?rel=='next'].href | [0]"}, page({"link": []}), "the keys [link]"),
        ({**LINK, "next_url_path": "links[?rel=='next'].href | [0]"}, page({"links": [{"rel": "self"}]}), "`links` is"),
        ({**LINK, "next_url_path": "a[0].b"}, page({"a": []}), "`a` is a list"),
        (BY_HEADER, page([1], X_Continue="t"), "the answer has the headers [X-Continue]"),
        ({"type": "header_link"}, page([1], Link='<?page=9>; rel="last"'), "the header `Link` has [last]"),
        ({"type": "header_link"}, page([1]), "the answer has no header `Link`"),
    ],
)
def test_a_first_page_that_mentions_no_next_one_is_doubted(kind: dict[str, Any], first: Page, said: str) -> None:
    pager = make_paginator(card(**kind))
    pager.first(PageRequest(BASE))
    assert pager.next(first, 5) is None
    assert pager.unpaged is not None
    assert ON_PAGE_1 in pager.unpaged
    assert said in pager.unpaged

    told = make_paginator(card(**kind, absent="end"))
    told.first(PageRequest(BASE))
    assert told.next(first, 5) is None
    assert told.unpaged is None, "the card says that it may"


@pytest.mark.parametrize(
    ("kind", "pages"),
    [
        (TOKEN, [(page({"meta": {"next": {"token": None}}}), 5)]),
        (TOKEN, [(page({"meta": {"next": None}}), 5)]),
        (TOKEN, [(page({"meta": {"next": {"token": ""}}}), 5)]),
        (TOKEN, [(page({"meta": {}}), 0)]),
        (TOKEN, [(page({"meta": {"next": {"token": 1}}}), 5), (page({"meta": {}}), 5)]),
        (LINK, [(page({"links": {"next": {"href": "?page=2"}}}), 5), (page({"links": {}}), 5)]),
        (BY_HEADER, [(page(X_Next=""), 5)]),
        (BY_HEADER, [(page(X_Next="2"), 5), (page(), 5)]),
        ({"type": "header_link"}, [(page(Link='<?page=2>; rel="next"'), 5), (page(), 5)]),
    ],
)
def test_an_end_that_is_said_or_comes_later_is_not_doubted(kind: dict[str, Any], pages: list[tuple[Page, int]]) -> None:
    pager = make_paginator(card(**kind))
    pager.first(PageRequest(BASE))
    assert [pager.next(*each) is None for each in pages] == [False] * (len(pages) - 1) + [True]
    assert pager.unpaged is None


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "json_link", "next_url_path": "a[["},
        {"type": "cursor", "cursor_path": ""},
        {"type": "offset", "limit": 0},
        {"type": "offset"},
        {"type": "pages"},
    ],
)
def test_a_paginator_that_cant_be_is_refused_with_the_card(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        card(**fields)


def test_the_guard_refuses_a_request_that_comes_again() -> None:
    guard = Guard()
    for n in (1, 2):
        guard.request(f"f{n}", f"{BASE}?page={n}")
        guard.page(f"d{n}", f"{BASE}?page={n}")
    with pytest.raises(SourceError, match=r"\?page=1 was read already \(2 pages so far\).*in a circle"):
        guard.request("f1", f"{BASE}?page=1")


def test_the_guard_refuses_records_that_come_again() -> None:
    guard = Guard()
    guard.seed("f1", "d1")
    guard.page("d2", f"{BASE}?page=2")
    with pytest.raises(SourceError, match=r"page=3 gives the same records as page 1 .*ignores the parameter"):
        guard.page("d1", f"{BASE}?page=3")
    with pytest.raises(SourceError, match="the same records as page 2"):
        guard.page("d2", BASE)
    with pytest.raises(SourceError, match="circle"):
        guard.request("f1", BASE)


def test_fingerprints_tell_requests_apart() -> None:
    def of(method: str = "GET", url: str = BASE, scope: str = "", **more: Any) -> str:
        return fingerprint_of(method, PageRequest(url, **more), scope)

    different = {of(), of("POST"), of(url=BASE + "/"), of(params={"a": "1"}), of(body={"a": 1}), of(scope="7")}
    assert len(different) == 6
    assert of(params={"a": "1"}) == of(url=f"{BASE}?a=1")


def test_digests_depend_on_values_alone() -> None:
    assert Guard.digest([{"a": 1}]) == Guard.digest([{"a": 1}])
    assert Guard.digest([{"a": 1}]) != Guard.digest([{"a": 2}])
    assert Guard.digest([{"a": 10**400, "b": "\ud800"}]) != Guard.digest([{"a": 10**400, "b": "\ud801"}])


STREAM = {"name": "books", "path": "/books"}


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ([{**STREAM, "records": "a["}], "is no JMESPath"),
        ([{**STREAM, "json_body": {"a": 1}}], "needs `method: POST`"),
        ([{**STREAM, "format": "jsonl", "records": "a"}], "each line is a record"),
        ([{**STREAM, "format": "jsonl", "cursor": {"field": "at"}}], "would be appended again"),
        (
            [{**STREAM, "parent": {"stream": "x", "field": "id", "placeholder": "id"}, "path": "/x/{id}"}],
            "not among the streams",
        ),
        ([{**STREAM, "parent": {"stream": "books", "field": "id", "placeholder": "id"}}], "neither in `path` nor"),
        (
            [
                {"name": "a", "path": "/{x}", "parent": {"stream": "b", "field": "id", "placeholder": "x"}},
                {"name": "b", "path": "/{x}", "parent": {"stream": "a", "field": "id", "placeholder": "x"}},
            ],
            "each other's parents: a -> b -> a",
        ),
        (
            [
                STREAM,
                {
                    "name": "a",
                    "path": "/{x}",
                    "cursor": {"field": "at"},
                    "parent": {"stream": "books", "field": "id", "placeholder": "x"},
                },
            ],
            "can't have a `cursor`",
        ),
    ],
)
def test_streams_that_cant_be_are_refused_with_the_card(streams: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RestApiSourceCard.model_validate({"source": "x", "base_url": "http://x", "streams": streams})
