"""What a first answer shows that its card says nothing of; and all the answers that are right as they are."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_project.ingest.cards.rest import RestStream
from dagster_project.ingest.fetch.hints import hints

TWO = [{"id": 1}, {"id": 2}]


def said(document: Any, link: str = "", **card: Any) -> list[str]:
    stream = RestStream.model_validate({"name": "readings", "path": "/readings", **card})
    count = len(document) if isinstance(document, list) else 1
    if isinstance(document, dict) and (records := card.get("records")) in document:
        count = len(document[records] or [])
    return hints(stream, document, count, {"Link": link} if link else {})


def test_a_list_in_an_object_and_the_link_beside_it() -> None:
    document = {"data": [{"id": n} for n in range(20)], "meta": {"next": "/readings?page=2"}}
    records, pages = said(document)
    assert records == (
        "the answer is one object, with a list of 20 objects at `data`: if they are the records, say `records: data`, "
        "else `records: '@'`"
    )
    link = (
        "only one page is read, but there is a link at `meta.next`: say `paginator: {type: json_link, next_url_path: "
        "meta.next}`; where it is all there is, say `paginator: {type: single_page}`"
    )
    assert pages == link
    assert said(document, records="data") == [link]
    assert said(document, records="data", paginator={"type": "json_link", "next_url_path": "meta.next"}) == []


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({"next": "https://x/2"}, "next_url_path: next}"),
        ({"_links": {"next": {"href": "?page=2"}}}, "next_url_path: _links.next.href}"),
        ({"@odata.nextLink": "https://x/2"}, "next_url_path: '\"@odata.nextLink\"'}"),
        ({"paging": {"nextPageToken": "abc"}}, "cursor_path: paging.nextPageToken}"),
        ({"page": {"totalPages": 3}}, "total_path: page.totalPages}"),
        ({"has_more": True}, "`has_more` is true"),
        ({"total": 47}, "`total` says 47 where there are 2"),
        ({"next_page": 2}, "`next_page` says 2: say `paginator: {type: page_number}`"),
    ],
)
def test_every_way_to_point_to_further_pages(beside: dict[str, Any], told: str) -> None:
    for card in ({"records": "rows"}, {}):
        assert told in said({"rows": TWO, **beside}, **card)[-1]
    assert said({"rows": TWO, **beside}, records="rows", paginator={"type": "single_page"}) == []
    assert said({"rows": TWO, **beside}, records="rows", max_pages=1) == []
    assert said({"rows": [], **beside}, records="rows") == [], "nothing there is an answer"


def test_a_list_may_have_its_next_page_in_a_header() -> None:
    assert "paginator: {type: header_link}" in said(TWO, '<https://x/2>; rel="next"')[0]
    assert said(TWO, '<https://x/1>; rel="prev"') == said(TWO) == []


@pytest.mark.parametrize(
    ("document", "card"),
    [
        ([], {}),
        ({}, {}),
        (None, {}),
        ({"data": [], "meta": {"next": None, "total": 0}}, {}),
        ({"data": TWO, "next": None, "total": 2, "pages": 1, "has_more": False}, {"records": "data"}),
        ({"data": TWO, "shipping": {"total": 99}}, {"records": "data"}),
        ({"id": 7, "name": "a", "roles": TWO, "next": "/users/8"}, {}),
        ({"sku": 7, "prices": TWO}, {"primary_key": "sku"}),
        ({"sku": 7, "prices": TWO}, {"path": "/{p}", "parent": {"stream": "s", "field": "f", "placeholder": "p"}}),
        ({"hourly": {"time": [1, 2, 3], "t": [1.0, 2.0, 3.0]}, "total": 9}, {}),
        ({"status": "ok", "notices": [{"text": "x"}]}, {}),
        ({"data": TWO, "next": "/x"}, {"records": "@"}),
    ],
)
def test_what_is_right_as_it_is(document: Any, card: dict[str, Any]) -> None:
    assert said(document, **card) == []


def test_names_that_the_card_knows_decide() -> None:
    document = {"id": 1, "payload": {"rows": [{"sku": 1}]}}
    assert "a list of 1 object at `payload.rows`" in said(document, primary_key="sku")[0]
    assert said(document, primary_key="id") == []
