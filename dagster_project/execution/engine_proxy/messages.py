"""Requests, read strictly: what could mean one thing here and another to the engine is refused, never repaired.

Only parsing belongs here; whether a well-formed request is allowed is the policy's concern. A connection carries one
request, so there is no second one to smuggle; bodies have a Content-Length, never chunks; a target has no encoded
characters but the ``@`` of a digest, so no path has two spellings. The grammar is RFC 9110's and 9112's, narrowed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import parse_qsl

MAX_HEAD = 16 * 1024
MAX_HEADERS = 64
MAX_BODY = 1024 * 1024
"""A step's command line carries Dagster's packed arguments: some KB. The rest is headroom."""
MAX_DEPTH = 16

_REQUEST_LINE = re.compile(r"(GET|HEAD|POST|DELETE) (/[!-~]*) HTTP/1\.1")
_METHOD_LIKE = re.compile(r"[A-Z]{1,16} ")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):([\t -~\x80-\xff]*)")
_PATH = re.compile(r"(?:/[A-Za-z0-9_@:][A-Za-z0-9_.@:-]*)+")
_QUERY = re.compile(r"[A-Za-z0-9_.~%+=&:,*@/!'(){}\"\[\]-]*")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,8}")

Json = dict[str, Any]


class Refused(Exception):
    """A request goes no further; the message says which rule and what to do.

    Args:
        rule: In words, without any value of an environment or command line: it goes into the log.
        status: Answer to the client.
    """

    def __init__(self, rule: str, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> None:
        super().__init__(rule)
        self.rule = rule
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has one meaning."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    length: int = 0
    body: bytes = b""


def parse_head(raw: bytes) -> Request:
    """Read request line and headers, the empty line at the end included.

    Raises:
        Refused: It isn't plain, or not ours to understand.
    """
    if not raw.endswith(b"\r\n\r\n") or len(raw) > MAX_HEAD:
        _malformed(f"request line and headers end within {MAX_HEAD} bytes")
    lines = raw[:-4].decode("latin-1").split("\r\n")
    line, rest = lines[0], lines[1:]
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        if _METHOD_LIKE.match(line):
            raise Refused("GET, HEAD, POST and DELETE of a path, over HTTP/1.1, are all there is")
        _malformed("the first line is: method, path, HTTP/1.1")
    headers = _headers(rest)
    method, target = found.groups()
    path, mark, query = target.partition("?")
    return Request(method, _path(path), parse_query(query) if mark else {}, _length(headers))


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > MAX_HEADERS:
        _malformed(f"at most {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        # A line that begins with a space would continue the one before it: no name, no match.
        found = _HEADER.fullmatch(line)
        if found is None:
            _malformed("a header is a name, a colon and printable text on one line")
        name = found[1].lower()
        if name in headers:
            _malformed("no header comes twice")
        headers[name] = found[2].strip(" \t")
    if "host" not in headers:
        _malformed("HTTP/1.1 requests have a Host")
    if "transfer-encoding" in headers:
        _malformed("bodies come with a Content-Length, not in chunks")
    if "expect" in headers:
        raise Refused("nothing is expected before a body: leave out Expect", HTTPStatus.EXPECTATION_FAILED)
    if "upgrade" in headers or "upgrade" in headers.get("connection", "").lower():
        raise Refused("attach, exec and other connections that turn into streams are not for this proxy")
    return headers


def _path(path: str) -> str:
    # Docker's client writes the @ of a digest as %40; nothing else of what we allow needs encoding.
    path = path.replace("%40", "@")
    # Segments begin with no dot: neither `.` nor `..` is one, and an empty one (`//`) isn't either.
    if _PATH.fullmatch(path) is None:
        raise Refused("paths have no encoded characters, no empty segments and none that begin with a dot")
    return path


def parse_query(text: str) -> dict[str, str]:
    """Read a query string, every parameter once.

    Raises:
        Refused: A parameter comes twice, or is written so that it can be read in two ways.
    """
    if _QUERY.fullmatch(text) is None:
        _malformed("a query is made of names and values, with other characters percent-encoded")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=16)
    except ValueError:
        _malformed("a query is at most 16 names and values, each with a =, in UTF-8")
    values = dict(pairs)
    if len(values) != len(pairs):
        _malformed("no parameter comes twice")
    if "\0" in "".join(name + value for name, value in pairs):
        _malformed("a query has no NUL")
    return values


def _length(headers: dict[str, str]) -> int:
    length = headers.get("content-length", "0")
    if _LENGTH.fullmatch(length) is None:
        _malformed("a Content-Length is a plain number")
    if int(length) > MAX_BODY:
        raise Refused(f"bodies have at most {MAX_BODY} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(length)


def parse_json(body: bytes | str) -> Json:
    """Read a JSON object whose every key stands there once: of two, readers disagree which one counts.

    Raises:
        Refused: It isn't one, a key comes twice, or a text holds a NUL or half a character.
    """

    def once(pairs: list[tuple[str, Any]]) -> Json:
        values = dict(pairs)
        if len(values) != len(pairs):
            _malformed("no key of a JSON object comes twice")
        return values

    def constant(_: str) -> NoReturn:
        _malformed("NaN and Infinity are no JSON")

    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        value = json.loads(text, object_pairs_hook=once, parse_constant=constant)
        _plain(value, MAX_DEPTH)
    except (ValueError, RecursionError):
        _malformed("the body is JSON in UTF-8")
    if not isinstance(value, dict):
        _malformed("the body is a JSON object")
    return value


def _plain(value: object, depth: int) -> None:
    if depth == 0:
        _malformed(f"JSON is at most {MAX_DEPTH} levels deep")
    if isinstance(value, str):
        if "\0" in value:
            _malformed("no text holds a NUL")
        value.encode("utf-8")  # half of a surrogate pair is no character: the engine would read another one
    elif isinstance(value, dict):
        for name, inner in value.items():
            _plain(name, depth - 1)
            _plain(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _plain(inner, depth - 1)


def _malformed(rule: str) -> NoReturn:
    raise Refused(rule, HTTPStatus.BAD_REQUEST)
