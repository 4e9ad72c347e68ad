"""HTML pages to chunks: the fields that a card describes, each found by CSS or XPath, cut out and mapped.

Every value is text of no stated type (``all`` gives JSON lists). What a selector doesn't find is NULL, so the share of
NULL in a column tells the selector's health. Fetching, charset and links are elsewhere (``page``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
from selectolax.lexbor import LexborHTMLParser, LexborNode

from dagster_project.ingest.chunk import Chunk, Column, Kind, Refused
from dagster_project.ingest.errors import CardError
from dagster_project.ingest.parse.page import Page, lxml_tree, node_text, select
from dagster_project.ingest.parse.records import as_json_line
from dagster_project.ingest.parse.text import cut, refuse_rows, string_array, text_size

if TYPE_CHECKING:
    from dagster_project.ingest.cards.web import FieldRule, WebStream
    from dagster_project.ingest.landing.model import LandedObject

_EXCERPT = 2000


def read_page(stream: WebStream, obj: LandedObject, open_bytes: Callable[[], BinaryIO]) -> Iterator[Chunk]:
    """Read the records of one page.

    A record without a ``required`` field is refused, and so is a page (that is one record) on which no selector finds
    anything: it is another page than the card thinks.

    Raises:
        CardError: A selector or expression can't be used.
    """
    with open_bytes() as file:
        body = file.read()
    meta = obj.meta
    page = Page(body, str(meta.get("url") or obj.origin), str(meta.get("content_type") or obj.media_type or ""))
    facts = {
        "url": page.url,
        "title": page.title,
        "status": str(meta.get("status") or ""),
        "fetched_at": meta.get("fetched_at") or (obj.observed_at.isoformat() if obj.observed_at else None),
    }
    scopes: list[LexborHTMLParser | LexborNode] = (
        [page.tree] if stream.record is None else list(select(page.tree, stream.record))
    )
    rows: list[dict[str, Any]] = []
    ordinals: list[int] = []
    refused: list[Refused] = []
    searched = [name for name, rule in stream.fields.items() if rule.const is None and rule.from_page is None]
    for ordinal, scope in enumerate(scopes, 1):
        record = _record(stream, page, scope, facts)
        lost = [name for name, rule in stream.fields.items() if rule.required and record[name] is None]
        if stream.record is None and searched and all(record[name] is None for name in searched):
            message = f"no selector of the card found anything on {page.url} (title {page.title!r}): not such a page"
            refused.append(Refused(ordinal, "empty_page", message, cut(page.text[:_EXCERPT])))
        elif lost:
            message = f"required but not found on {page.url}: {', '.join(lost)}"
            refused.append(Refused(ordinal, "missing_field", message, cut(as_json_line(record))))
        else:
            rows.append(record)
            ordinals.append(ordinal)
    yield _chunk(stream, rows, ordinals, refused)


def _chunk(stream: WebStream, rows: list[dict[str, Any]], ordinals: list[int], refused: list[Refused]) -> Chunk:
    columns: dict[str, Column] = {}
    bad_rows: set[int] = set()
    replaced = 0
    for name, rule in stream.fields.items():
        values = [row[name] for row in rows]
        if rule.all:
            values = [None if value is None else as_json_line(value) for value in values]
        array, bad = string_array(values)
        bad_rows.update(bad)
        replaced += len(bad)
        empty = array.null_count == len(array)
        columns[name] = Column(array, Kind.NULL if empty else Kind.JSON if rule.all else Kind.UNTYPED)
    chunk = Chunk(
        columns,
        len(rows),
        first_ordinal=1,
        ordinals=pa.array(ordinals, pa.int64()) if refused else None,
        refused=refused,
        replaced_nul=replaced,
        text_bytes=text_size(columns),
    )
    if bad_rows and stream.nul_bytes == "quarantine":
        chunk.replaced_nul = 0
        return refuse_rows(chunk, sorted(bad_rows), "nul", "has NUL characters")
    return chunk


def _record(
    stream: WebStream, page: Page, scope: LexborHTMLParser | LexborNode, facts: dict[str, str | None]
) -> dict[str, Any]:
    tree: Any = None
    record: dict[str, Any] = {}
    for name, rule in stream.fields.items():
        if rule.const is not None:
            record[name] = rule.const
            continue
        if rule.from_page is not None:
            found = [facts[rule.from_page]]
        elif rule.xpath is not None:
            if tree is None:
                tree = page.lxml if stream.record is None else lxml_tree(scope.html or "")
            found = _by_xpath(page, tree, name, rule)
        else:
            found = _by_css(page, scope, rule)
        values = [value for each in found if (value := _cut_out(each, name, rule)) is not None]
        record[name] = (values or None) if rule.all else (values[0] if values else None)
    return record


def _by_css(page: Page, scope: LexborHTMLParser | LexborNode, rule: FieldRule) -> list[str | None]:
    if rule.css is None:
        node = scope.root if isinstance(scope, LexborHTMLParser) else scope
        nodes = [node] if node is not None else []
    else:
        nodes = select(scope, rule.css)
    if not rule.all:
        nodes = nodes[:1]
    if rule.attr is not None:
        return [page.attribute(node.attributes.get(rule.attr), rule.attr) for node in nodes]
    return [node_text(node) for node in nodes]


def _by_xpath(page: Page, tree: Any, name: str, rule: FieldRule) -> list[str | None]:
    assert rule.xpath is not None
    found = _xpath(rule.xpath, name)(tree)
    if not isinstance(found, list):
        return [" ".join((str(found) if not isinstance(found, bool) else str(found).lower()).split())]
    values: list[str | None] = []
    for each in found if rule.all else found[:1]:
        if isinstance(each, str):
            owner = getattr(each, "attrname", None)
            values.append(page.attribute(each, owner or ""))
        elif rule.attr is not None:
            values.append(page.attribute(each.get(rule.attr), rule.attr))
        elif len(each) == 0:
            values.append(" ".join((each.text or "").split()))
        else:
            from lxml import html

            values.append(node_text(_fragment(html.tostring(each, encoding="unicode", with_tail=False))))
    return values


def _fragment(text: str) -> LexborNode:
    # Table cells and the like lose their elements outside a table, but not their text.
    body = LexborHTMLParser(text).body
    assert body is not None
    return body


@functools.lru_cache(maxsize=256)
def _xpath(expression: str, name: str) -> Any:
    from lxml import etree

    try:
        return etree.XPath(expression)
    except etree.XPathError as error:
        raise CardError(f"fields.{name}: {expression!r} is no XPath: {error}") from None


@functools.lru_cache(maxsize=256)
def _regex(expression: str, name: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise CardError(f"fields.{name}: {expression!r} is no regular expression: {error}") from None


def _cut_out(value: str | None, name: str, rule: FieldRule) -> str | None:
    """Apply ``regex`` and ``map``; a text that isn't in the map stays, so that nothing new is lost unseen."""
    if value is None:
        return None
    if rule.regex is not None:
        match = _regex(rule.regex, name).search(value)
        if match is None:
            return None
        value = (match.group(1) if match.re.groups else match.group(0)) or ""
    return rule.map.get(value, value) or None
