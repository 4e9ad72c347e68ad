"""Answers as far as fetching looks into them: exact numbers, records, and words for what isn't there."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest

from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.document import Field, Records, decode, read_document, read_lines

URL = "http://api.example/books"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"18446744073709551616123", 18446744073709551616123),
        (b"0.1000", Decimal("0.1000")),
        (b"1e400", Decimal("1e400")),
        (b'"\\ud800"', "\ud800"),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "ä"}'.encode("utf-16"), {"a": "ä"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_json_is_read_without_loss(data: bytes, value: Any) -> None:
    found = decode(data)
    assert found == value
    assert str(found) == str(value)


def test_numbers_of_thousands_of_digits_and_nan_are_read() -> None:
    assert decode(b"9" * 5000) == Decimal("9" * 5000)
    assert str(decode(b"[NaN]")) == "[nan]"


def test_another_charset_is_read_where_the_answer_names_it() -> None:
    data = '{"a": "é"}'.encode("latin-1")
    assert read_document(data, URL, "application/json; charset=ISO-8859-1") == {"a": "é"}
    with pytest.raises(SourceError, match="something else than JSON"):
        read_document(data, URL, "application/json")


@pytest.mark.parametrize(
    ("data", "content_type", "said"),
    [
        (
            b"<!DOCTYPE html><title>Log in</title>" + b"x" * 1000,
            "text/html",
            r"HTML page.*begins: '<!DOCTYPE html>.{170}",
        ),
        (b"  <html>", "application/json", "an HTML page instead of JSON"),
        (b"Service busy", "text/plain", "something else than JSON.*'Service busy'"),
        (b'{"a": [1, 2', "application/json", "something else than JSON"),
        (b"", "application/json", "empty body"),
        (b"\xff\xfe\x00", "", "something else than JSON"),
    ],
)
def test_what_isnt_json_is_said_with_its_beginning(data: bytes, content_type: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        read_document(data, URL, content_type)
    assert str(caught.value).startswith(URL)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("path", "document", "records"),
    [
        ("results", {"results": [1, 2]}, [1, 2]),
        ("data.items", {"data": {"items": []}}, []),
        ("results", {"results": None}, []),
        ("data.items", {"data": {"items": None}}, []),
        ("results", {"results": {"id": 1}}, [{"id": 1}]),
        ("[?ok]", [{"ok": True}, {"ok": False}], [{"ok": True}]),
        (None, [1], [1]),
        (None, {"id": 1}, [{"id": 1}]),
        (None, None, []),
    ],
)
def test_records_are_found(path: str | None, document: Any, records: list[Any]) -> None:
    assert Records(path).of(document, URL) == records


@pytest.mark.parametrize(
    ("path", "document", "said"),
    [
        ("results", {"error": "down", "code": 7}, r"nothing at `records: results`.*keys \['error', 'code'\]"),
        ("data.items", {"data": {}}, "nothing at `records: data.items`"),
        ("results", ["x"], "the answer is a list"),
        ("results", {"results": "none"}, "a text at `records: results`"),
        (None, "hello", "a text at `records: None`"),
    ],
)
def test_records_that_arent_there_are_said_with_what_is(path: str | None, document: Any, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        Records(path).of(document, URL)


def test_fields_are_plain_names_or_paths() -> None:
    assert Field("id").of({"id": 7}) == 7
    assert Field("id").of("no record") is None
    assert Field("a.b").of({"a": {"b": 1}}) == 1
    assert Field("a.b").of({"a": None}) is None


def test_lines_leave_what_isnt_json_to_the_parser() -> None:
    assert list(read_lines(io.BytesIO(b'{"a": 1}\n\nnot\n{"a": 0.10}'))) == [{"a": 1}, None, {"a": Decimal("0.10")}]
