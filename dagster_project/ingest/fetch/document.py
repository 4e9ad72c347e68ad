"""An API's answer as far as fetching looks into it: the document, its records, and words for what is wrong with it.

Numbers stay exact, because a cursor or a parent's id may be one. How records become rows is the parsers' matter; they
read the archived bytes again.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import IO, Any

import jmespath
import msgspec

from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.redact import Redactor

_BRIEF = 100  # characters
_KEYS = 20
_LONGEST_INT = 4000  # digits; int() refuses more
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_HTML = re.compile(rb"\s*(?:<!doctype\s+html|<html|<head|<body|<!--)", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def decode(data: bytes, charset: str | None = None) -> Any:
    """Decode one JSON value; NaN, lone surrogates and huge numbers, which the fast decoder refuses, included.

    Raises:
        ValueError: It isn't JSON.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError, InvalidOperation):
        return json.loads(_text(data, charset), parse_float=_exact, parse_int=_whole)


def read_document(data: bytes, url: str, content_type: str = "", redactor: Redactor | None = None) -> Any:
    """Decode an answer that should be JSON.

    Args:
        data: The answer.
        url: Where it came from, without secrets.
        content_type: As the source said.
        redactor: Knows the secrets that an answer which isn't JSON may show.

    Raises:
        SourceError: It isn't, with what it looks like instead.
    """
    charset = re.search(r"charset=[\"']?([\w-]+)", content_type, re.IGNORECASE)
    try:
        return decode(data, charset.group(1) if charset else None)
    except (ValueError, RecursionError, LookupError) as error:
        start = (redactor or Redactor()).start(data, decode=lambda first: _text(first, None, "replace"))
        if not data.strip():
            raise SourceError(f"{url} answered with an empty body instead of JSON") from None
        if isinstance(error, RecursionError):
            hint = "JSON that is nested too deeply"
        elif _HTML.match(data) or "html" in content_type:
            hint = "an HTML page instead of JSON: a login or error page, or the wrong `path` or `base_url`"
        else:
            hint = f"something else than JSON ({error})"
        raise SourceError(f"{url} answered with {hint}. It begins: {start!r}") from None


class Records:
    """Finds the list of records in a document."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._expression = jmespath.compile(path) if path else None

    def of(self, document: Any, url: str) -> list[Any]:
        """Give the records.

        Raises:
            SourceError: There is nothing at the path, or no list; with the keys that are there.
        """
        found = document if self._expression is None else self._expression.search(document)
        if isinstance(found, list):
            return found
        if isinstance(found, dict):
            return [found]
        if found is None and self._path is not None and _has(document, self._path):
            return []  # the key is there and says null: no records
        if found is None and self._expression is None:
            return []
        has = f"has the keys {list(document)[:_KEYS]}" if isinstance(document, dict) else f"is a {_kind(document)}"
        what = "nothing" if found is None else f"a {_kind(found)}"
        raise SourceError(
            f"{url}: {what} at `records: {self._path}`, where a list of records should be; the answer {has}"
        )


class Field:
    """Finds a field in a record: fast where it is a plain name, by JMESPath where it is more."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._expression = None if _PLAIN.fullmatch(path) and "." not in path else jmespath.compile(path)

    def of(self, record: Any) -> Any:
        """Give the field's value; None where there is none."""
        if self._expression is not None:
            return self._expression.search(record)
        return record.get(self.path) if type(record) is dict else None


def read_lines(stream: IO[bytes]) -> Iterator[Any]:
    """Give what JSON Lines hold; lines that aren't JSON are left to the parser to refuse."""
    for line in stream:
        if not line.strip():
            continue
        try:
            yield decode(line)
        except (ValueError, RecursionError, LookupError):
            yield None


def brief(value: Any) -> str:
    """Write a value for a message: whole or not at all, as half a secret in it wouldn't be known for one."""
    text = repr(value)
    return text if len(text) <= _BRIEF else f"{_kind(value)} of {len(text)} characters"


def _has(document: Any, path: str) -> bool:
    """Tell whether a path of plain names ends at a key that is there."""
    if not _PLAIN.fullmatch(path):
        return False
    *names, last = path.split(".")
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return isinstance(document, dict) and last in document


def _text(data: bytes, charset: str | None, errors: str = "strict") -> str:
    for bom, name in _BOMS:
        if data.startswith(bom):
            return data.decode(name, errors).removeprefix("\ufeff")
    try:
        return data.decode(json.detect_encoding(data), "surrogatepass" if errors == "strict" else errors)
    except UnicodeDecodeError:
        if charset is None or codecs.lookup(charset).name == "utf-8":
            raise
        return data.decode(charset, errors)


def _exact(digits: str) -> Decimal | str:
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent that nothing can hold
        return digits


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < _LONGEST_INT else Decimal(digits)


def _kind(value: Any) -> str:
    names = {str: "text", bool: "boolean", int: "number", Decimal: "number", list: "list", dict: "object"}
    return names.get(type(value), "null")
