"""An HTML page as text and tree: its charset, its base URL, its links. What a record on it is, is told in ``html``.

Fetching uses the links too, so nothing here knows streams.
"""

from __future__ import annotations

import codecs
import re
from typing import Any
from urllib.parse import urldefrag, urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from dagster_project.ingest.errors import CardError
from dagster_project.ingest.parse.encoding import SAMPLE, detect

_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "option",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_SILENT = frozenset({"script", "style", "template", "noscript", "head"})
# What pages call Latin-1 is Windows-1252, as every browser knows.
_ALIASES = {"iso8859-1": "cp1252", "ascii": "cp1252", "latin-1": "cp1252"}
_URL_ATTRIBUTES = {"href", "src", "action", "poster", "data-src"}
_DEPTH = 400
_DEEPEST = 2000
"""Elements inside one another past which a page is cut: browsers stop at 512, and parsers take for ever."""
_MANY = 10_000
"""Tags up to which a page isn't looked at for that."""
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s<>/]{0,40})[^<>]*")
_SHALLOW = (
    frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track"})
    | frozenset({"wbr", "p", "li", "dt", "dd", "td", "th", "tr", "thead", "tbody", "tfoot", "option", "optgroup"})
    | frozenset({"colgroup", "rt", "rp", "html", "head", "body", "a", "button", "form", "nobr"})
    | frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
)
"""Elements that have no end, needn't say it, or are never inside one another."""


def charset(body: bytes, content_type: str | None = None) -> str:
    """Find a page's charset: byte-order mark, then header, then meta element, then the bytes themselves."""
    marked = detect(body[:4]) if body[:1] in (b"\xef", b"\xff", b"\xfe") else None
    if marked is not None and marked.bom:
        return marked.name
    header = _CHARSET.search(content_type or "")
    meta = _META.search(body[:4096])
    for found in (header.group(1) if header else None, meta.group(1).decode() if meta else None):
        if found is None:
            continue
        try:
            name = codecs.lookup(found).name
        except LookupError:
            continue
        if name.startswith(("utf-16", "utf-32")) and b"<" in body[:64] and b"\0" not in body[:64]:
            continue  # says what can't be
        return _ALIASES.get(name, name)
    return detect(body[:SAMPLE], whole=len(body) <= SAMPLE).name


def decode(body: bytes, content_type: str | None = None) -> str:
    """Decode a page; bytes that don't fit its charset become U+FFFD, as in a browser."""
    name = charset(body, content_type)
    text = body.decode(name, "bindery_c1" if name == "cp1252" else "replace")
    return text.removeprefix("\ufeff")


def _shallow(text: str) -> str:
    """Cut a page where it is nested deeper than any page is, which takes parsers a time that grows with its square."""
    if text.count("<") <= _MANY:
        return text
    depth = 0
    for tag in _TAG.finditer(text):
        if tag[2].lower() in _SHALLOW:
            continue
        if tag[1]:
            depth = max(0, depth - 1)
        elif not (tag[0].endswith("/") and tag[2].lower() not in _BLOCKS):  # as in <path/>; <div/> isn't closed by it
            depth += 1
            if depth > _DEEPEST:
                return text[: tag.start()]
    return text


class Page:
    """One HTML page."""

    def __init__(self, body: bytes, url: str, content_type: str | None = None) -> None:
        self.url = url
        whole = decode(body, content_type)
        self.text = _shallow(whole)
        self.cut = len(self.text) < len(whole)
        """Whether only its beginning is read."""
        self.tree = LexborHTMLParser(self.text)
        base = self.tree.css_first("base[href]")
        href = (base.attributes.get("href") if base is not None else None) or ""
        self.base = absolute(url, href) or url
        self._lxml: Any = None

    @property
    def title(self) -> str | None:
        """The page's title."""
        node = self.tree.css_first("title")
        return " ".join(node.text(deep=True).split()) or None if node is not None else None

    def links(self, css: str) -> list[str]:
        """List the whole URLs that elements lead to, without fragments, in the order of the page."""
        found = []
        for node in select(self.tree, css):
            href = node.attributes.get("href") or node.attributes.get("src")
            if href is None and (inner := node.css_first("a[href]")) is not None:
                href = inner.attributes.get("href")
            if href and (url := absolute(self.base, href)):
                found.append(url)
        return found

    def attribute(self, value: str | None, name: str) -> str | None:
        """Give an attribute's value; those that lead somewhere as whole URLs."""
        if value is None:
            return None
        if name in _URL_ATTRIBUTES:
            return urljoin(self.base, value.strip()) if value.strip() else None
        return " ".join(value.split())

    @property
    def lxml(self) -> Any:
        """The page's tree for XPath, made when it is first asked for."""
        if self._lxml is None:
            self._lxml = lxml_tree(self.text)
        return self._lxml


def lxml_tree(text: str) -> Any:
    """Make a tree for XPath."""
    from lxml import etree, html

    parser = html.HTMLParser(encoding="utf-8", huge_tree=False)
    try:
        return html.document_fromstring(text.encode("utf-8", "replace") or b"<html></html>", parser=parser)
    except etree.ParserError:  # nothing but white space
        return html.document_fromstring(b"<html></html>", parser=parser)


def absolute(base: str, href: str) -> str | None:
    """Make a link whole, without its fragment; None where it leads to no page."""
    try:
        url, _ = urldefrag(urljoin(base, href.strip()))
    except ValueError:
        return None
    return url if url.startswith(("http://", "https://")) else None


def select(node: LexborHTMLParser | LexborNode, css: str) -> list[LexborNode]:
    """Select by CSS.

    Raises:
        CardError: It is no selector.
    """
    try:
        return node.css(css)
    except (SelectolaxError, ValueError) as error:
        raise CardError(f"{css!r} is no CSS selector: {error}") from None


def node_text(node: LexborNode) -> str:
    """Give what a reader sees of an element: white space normalised, blocks apart, scripts left out."""
    if node.child is None:
        return ""
    parts: list[str] = []
    _collect(node, parts, 0)
    return " ".join("".join(parts).split())


def _collect(node: LexborNode, parts: list[str], depth: int) -> None:
    if depth > _DEPTH:  # nested beyond reason: its text, without the niceties
        parts.append(node.text(deep=True, separator=" "))
        return
    child = node.child
    while child is not None:
        tag = child.tag
        if tag == "-text":
            parts.append(child.text_content or "")
        elif tag and tag not in _SILENT and not tag.startswith(("-", "!")):
            block = tag in _BLOCKS
            if block:
                parts.append(" ")
            _collect(child, parts, depth + 1)
            if block:
                parts.append(" ")
        child = child.next
