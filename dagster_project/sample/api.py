"""The catalogue API's URLs: the shape of Gutendex (count, next, previous, results; 32 per page), JSON in and out.

`page`, `updated_since` and `ids` are understood; other parameters are ignored and kept in the links, as Gutendex
does.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from dagster_project.sample.catalogue import Book, record_of
from dagster_project.sample.httpd import Request, Response
from dagster_project.sample.world import World

PER_PAGE = 32
_BOOK = re.compile(r"books/(\d{1,12})/?\Z")
_ID = re.compile(r"\d{1,12}\Z")
_LOST_PLUS = re.compile(r"(.*[T ]\d.*) (\d\d:?\d\d)\Z")
_MOST_IDS = 1000


class CatalogueApi:
    """The API for one world."""

    def __init__(self, world: World) -> None:
        self._catalogue = world.catalogue

    def handle(self, path: str, request: Request) -> Response:
        """Answer a request for `path` (below the API's prefix, without a slash in front)."""
        if path in ("books", "books/"):
            return self._books(request)
        if match := _BOOK.match(path):
            book = self._catalogue.book(int(match[1]))
            if book is not None:
                return _json(record_of(book), modified=[book])
        return _detail(404, "No Book matches the given query." if path.startswith("books/") else "Not found.")

    def _books(self, request: Request) -> Response:
        query = request.query
        chosen: list[Book] | None = None
        since: datetime | None = None
        if "updated_since" in query:
            try:
                since = _moment(query["updated_since"])
            except (ValueError, OverflowError):
                return _detail(
                    400, "updated_since: expected an ISO 8601 date or date-time, such as 2026-01-19T00:00:00Z."
                )
        if "ids" in query:
            numbers = query["ids"].split(",")[:_MOST_IDS]
            found = (self._catalogue.book(int(n)) for n in sorted({n for n in numbers if _ID.match(n)}, key=int))
            chosen = [b for b in found if b is not None and (since is None or b.updated_at >= since)]
        count = len(chosen) if chosen is not None else self._catalogue.count(since)
        text = query.get("page", "1")
        page = int(text) if _ID.match(text) else 0
        start = (page - 1) * PER_PAGE
        if page < 1 or (page > 1 and start >= count):
            return _detail(404, "Invalid page.")
        stop = start + PER_PAGE
        books = chosen[start:stop] if chosen is not None else self._catalogue.slice(start, stop, since)
        body = {
            "count": count,
            "next": _link(request, page + 1) if stop < count else None,
            "previous": _link(request, page - 1) if page > 1 else None,
            "results": [record_of(book) for book in books],
        }
        return _json(body, modified=books)


def _moment(text: str) -> datetime:
    """Return a moment from ISO 8601, rounded up to the next second; a `+` sent unescaped has become a space."""
    moment = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", text.strip()))
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(microsecond=0) + timedelta(seconds=math.ceil(moment.microsecond / 1e6))


def _link(request: Request, page: int) -> str:
    kept = [(k, v) for k, v in parse_qsl(request.raw_query, keep_blank_values=True) if k != "page"]
    path = request.target.partition("?")[0]
    return f"{request.origin}{path}?{urlencode([('page', page), *kept])}"


def _json(body: dict[str, Any], modified: list[Book]) -> Response:
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    newest = max((b.updated_at.timestamp() for b in modified), default=None)
    # A page's newest date doesn't change when a book leaves it, so only the ETag of a list can tell that it is current.
    return Response(200, data, "application/json", last_modified=newest if "id" in body else None)


def _detail(status: int, text: str) -> Response:
    return Response(status, json.dumps({"detail": text}).encode(), "application/json")
