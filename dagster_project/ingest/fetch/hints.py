"""What the first answer of a stream shows that its card says nothing of: a list of records, a way to further pages.

Without `records` an object is one record, without `paginator` one page is everything: right for many APIs, and the
commonest omission for the others. Whoever writes `records: "@"` or `paginator: {type: single_page}` has said so, and is
told nothing. An empty list is an answer like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dagster_project.ingest.cards.rest import RestStream

_DEPTH = 3
"""Objects inside one another that are looked into; the answer itself is the first."""
_LONGEST = 80
"""Characters of a path that is named."""
_SOME = 2
"""Objects from which on a list looks like records."""
_IDENTITY = frozenset({"id", "_id", "uuid", "guid", "name", "slug", "code", "key", "title"})
"""Fields of something that is a record itself."""
_NEXT = frozenset({"next", "nexturl", "nextpageurl", "nextlink", "nextpage", "nexthref", "odatanextlink"})
_TOKEN = frozenset({"nextcursor", "nextpagetoken", "nexttoken", "nextpagecursor", "continuationtoken"})
_TOTAL = frozenset({"total", "totalcount", "totalresults", "totalrecords", "totalitems", "totalelements", "count"})
_PAGES = frozenset({"pages", "totalpages", "pagecount", "lastpage"})
_MORE = frozenset({"hasmore", "hasnext", "hasnextpage", "moreresults"})
_ABOUT = frozenset({"meta", "metadata", "pagination", "paging", "pager", "page", "pageinfo", "info", "links", "cursor"})
"""Objects that speak of the page; so does whatever holds a list of objects. In others a `total` may be anything."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL = re.compile(r"https?://|/|\?")


def hints(stream: RestStream, document: Any, count: int, headers: Mapping[str, str]) -> list[str]:
    """Say what the card leaves out, as far as a first page shows it.

    Args:
        stream: The stream.
        document: The decoded answer.
        count: Records that the card finds in it.
        headers: Of the answer.
    """
    said = []
    if stream.records is None and isinstance(document, dict):
        found = None if _is_record(stream, document) else _largest_list(stream, document)
        if found is None:
            return []
        path, count = found
        said.append(
            f"the answer is one object, with a list of {count:,} object{'' if count == 1 else 's'} at `{path}`: if "
            f"they are the records, say `records: {_quoted(path)}`, else `records: '@'`"
        )
    silent = "paginator" in stream.model_fields_set or stream.max_pages is not None or stream.records == "@"
    if not silent and count and (further := _further(document, count, headers)) is not None:
        said.append(
            f"only one page is read, but {further}; where it is all there is, say `paginator: {{type: single_page}}`"
        )
    return said


def _is_record(stream: RestStream, document: dict[str, Any]) -> bool:
    """Tell whether an answer without `records` is what the card wants: the names that it knows are in there."""
    known = {*stream.primary_key, *stream.newest_by, *stream.columns, *stream.ignore}
    if known:
        return not known.isdisjoint(document)
    return stream.parent is not None or not _IDENTITY.isdisjoint(map(str.lower, document))


def _largest_list(stream: RestStream, document: dict[str, Any]) -> tuple[str, int] | None:
    known = {*stream.primary_key, *stream.newest_by, *stream.columns}
    best: tuple[str, int] | None = None
    for path, _, value in _fields(document, everywhere=True):
        if not isinstance(value, list) or len(value) < (1 if known else _SOME):
            continue
        if not all(isinstance(each, dict) for each in value) or (known and known.isdisjoint(value[0])):
            continue
        if best is None or len(value) > best[1]:
            best = path, len(value)
    return best


def _further(document: Any, count: int, headers: Mapping[str, str]) -> str | None:
    """Say how an answer points to more than it holds, and what the card would say of it."""
    if re.search(r';\s*rel\s*=\s*"?next\b', headers.get("Link") or "", re.IGNORECASE):
        return "the `Link` header names a next one: say `paginator: {type: header_link}`"
    if not isinstance(document, dict):
        return None
    fields = list(_fields(document))
    for path, name, value in fields:
        link = f"{path}.href" if isinstance(value, dict) else path
        target = value.get("href") if isinstance(value, dict) else value
        if name in _NEXT and isinstance(target, str) and _URL.match(target):
            return f"there is a link at `{link}`: say `paginator: {{type: json_link, next_url_path: {_quoted(link)}}}`"
    for path, name, value in fields:
        if name in _TOKEN and isinstance(value, str | int) and value and value is not True:
            return f"there is a token at `{path}`: say `paginator: {{type: cursor, cursor_path: {_quoted(path)}}}`"
    return next(filter(None, (_counted(path, name, value, count) for path, name, value in fields)), None)


def _counted(path: str, name: str, value: Any, count: int) -> str | None:
    if name in _MORE and value is True:
        return f"`{path}` is true: say in `paginator` how to ask for more"
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    if name in _PAGES and value > 1:
        return f"`{path}` says {value:,}: say `paginator: {{type: page_number, total_path: {_quoted(path)}}}`"
    if name in _NEXT and value > 1:
        return f"`{path}` says {value:,}: say `paginator: {{type: page_number}}`"
    if name in _TOTAL and value > count:
        return f"`{path}` says {value:,} where there are {count:,}: say in `paginator` how to ask for more"
    return None


def _fields(document: dict[str, Any], *, everywhere: bool = False) -> Iterator[tuple[str, str, Any]]:
    """Give path, bare name and value of an answer's fields, outermost first; those that speak of the page, or all."""
    waiting: list[tuple[str, dict[str, Any], int]] = [("", document, 1)]
    for prefix, here, depth in waiting:
        for key, value in here.items():
            path = prefix + (key if _PLAIN.fullmatch(key) else f'"{key}"')
            if len(path) > _LONGEST or '"' in key or "\\" in key:
                continue
            name = _bare(key)
            yield path, name, value
            if isinstance(value, dict) and depth < _DEPTH and (everywhere or name in _ABOUT or _holds_records(value)):
                waiting.append((f"{path}.", value, depth + 1))


def _bare(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _holds_records(found: dict[str, Any]) -> bool:
    return any(isinstance(value, list) and value and isinstance(value[0], dict) for value in found.values())


def _quoted(path: str) -> str:
    return f"'{path}'" if '"' in path else path
