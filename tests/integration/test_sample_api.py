"""The catalogue API over HTTP: pages, increments, conditional requests, errors in the words of the real one."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from dagster_project.sample.process import WorldInfo, ensure_running, stop
from dagster_project.sample.world import World


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorldInfo]:
    folder: Path = tmp_path_factory.mktemp("sample")
    yield ensure_running(folder, 2)
    stop(folder)


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def _walk(http: requests.Session, url: str) -> list[dict[str, Any]]:
    pages = []
    while url:
        answer = http.get(url, timeout=10)
        assert answer.status_code == 200
        pages.append(answer.json())
        url = pages[-1]["next"]
    return pages


def test_following_next_gives_every_book_once(server: WorldInfo, http: requests.Session) -> None:
    pages = _walk(http, f"{server.gutenberg_url}/books")
    count = World(2).catalogue.count()
    ids = [book["id"] for page in pages for book in page["results"]]
    assert len(ids) == len(set(ids)) == count
    assert {page["count"] for page in pages} == {count}
    assert [len(page["results"]) for page in pages[:-1]] == [32] * (len(pages) - 1)
    assert pages[0]["previous"] is None
    assert pages[1]["previous"].startswith(f"{server.gutenberg_url}/books?page=1")
    assert _walk(http, f"{server.gutenberg_url}/books/?page=1") != []


def test_a_record_has_the_real_shape(server: WorldInfo, http: requests.Session) -> None:
    answer = http.get(f"{server.gutenberg_url}/books/345", timeout=10)
    assert answer.headers["Content-Type"] == "application/json"
    book = answer.json()
    assert book["title"] == "Dracula"
    assert book["authors"] == [{"name": "Stoker, Bram", "birth_year": 1847, "death_year": 1912}]
    assert book["issued"] == "1995-10-01"
    assert book["languages"] == ["en"]
    assert "Vampires -- Fiction" in book["subjects"]
    assert book["media_type"] == "Text"
    assert book["copyright"] is False
    assert book["withdrawn"] is False
    assert book["formats"]["application/epub+zip"].startswith("https://www.gutenberg.org/")
    assert book["updated_at"].endswith("Z")
    assert {"summaries", "translators", "editors", "bookshelves", "download_count", "id"} < book.keys()
    assert answer.text.find("\\u00") < 0


def test_updated_since_gives_the_increment_and_keeps_itself_in_links(server: WorldInfo, http: requests.Session) -> None:
    since = "2026-01-19T00:00:00Z"
    pages = _walk(http, f"{server.gutenberg_url}/books?updated_since={since}")
    books = [book for page in pages for book in page["results"]]
    assert 5 < len(books) < 60
    assert all(book["updated_at"] >= since for book in books)
    assert sum(book["withdrawn"] for book in books) == 1
    first = http.get(f"{server.gutenberg_url}/books?updated_since=2025-09-01", timeout=10).json()
    assert "updated_since=2025-09-01" in first["next"]
    assert first["count"] == sum(
        len(page["results"]) for page in _walk(http, f"{first['next']}".replace("page=2", "page=1"))
    )
    # A plus that nobody escaped arrives as a space.
    plus = http.get(f"{server.gutenberg_url}/books?updated_since=2026-01-19T01:00:00+01:00", timeout=10).json()
    assert plus["count"] == len(books)
    assert http.get(f"{server.gutenberg_url}/books?updated_since=2099-01-01", timeout=10).json() == {
        "count": 0,
        "next": None,
        "previous": None,
        "results": [],
    }


@pytest.mark.parametrize("page", ["0", "-1", "99999", "abc", "", "1.5", "²", "9" * 40])
def test_an_unknown_page_is_a_404_in_gutendex_words(server: WorldInfo, http: requests.Session, page: str) -> None:
    answer = http.get(f"{server.gutenberg_url}/books", params={"page": page}, timeout=10)
    assert answer.status_code == 404
    assert answer.json() == {"detail": "Invalid page."}


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "9999-12-31T23:59:59.9Z", ""])
def test_a_date_that_is_none_is_a_400(server: WorldInfo, http: requests.Session, since: str) -> None:
    answer = http.get(f"{server.gutenberg_url}/books", params={"updated_since": since}, timeout=10)
    assert answer.status_code == 400
    assert "ISO 8601" in answer.json()["detail"]


def test_ids_and_unknown_books(server: WorldInfo, http: requests.Session) -> None:
    answer = http.get(f"{server.gutenberg_url}/books?ids=345,84,99999999,x", timeout=10).json()
    assert [book["id"] for book in answer["results"]] == [84, 345]
    for path in ("/books/99999999", "/books/x", "/nothing", "/books/345/authors"):
        missing = http.get(f"{server.gutenberg_url}{path}", timeout=10)
        assert missing.status_code == 404
        assert "detail" in missing.json()


def test_an_unchanged_page_is_a_304(server: WorldInfo, http: requests.Session) -> None:
    url = f"{server.gutenberg_url}/books?page=2"
    plain = http.get(url, headers={"Accept-Encoding": "identity"}, timeout=10)
    zipped = http.get(url, headers={"Accept-Encoding": "gzip"}, timeout=10)
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert int(zipped.headers["Content-Length"]) < len(plain.content) / 3
    assert "Content-Encoding" not in plain.headers
    assert zipped.json() == plain.json()
    assert zipped.headers["ETag"] == f"W/{plain.headers['ETag']}"
    for tag in (plain.headers["ETag"], zipped.headers["ETag"], f'"other", {plain.headers["ETag"]}', "*"):
        again = http.get(url, headers={"If-None-Match": tag}, timeout=10)
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["ETag"].removeprefix("W/") == plain.headers["ETag"]
    assert http.get(url, headers={"If-None-Match": '"other"'}, timeout=10).status_code == 200

    book = http.get(f"{server.gutenberg_url}/books/84", timeout=10)
    assert email.utils.parsedate_to_datetime(book.headers["Last-Modified"]) is not None
    since = {"If-Modified-Since": book.headers["Last-Modified"]}
    assert http.get(book.url, headers=since, timeout=10).status_code == 304
    assert http.get(book.url, headers={"If-Modified-Since": "rubbish"}, timeout=10).status_code == 200


def test_many_clients_at_once_get_whole_and_equal_answers(server: WorldInfo) -> None:
    urls = [f"{server.gutenberg_url}/books?page={n}" for n in range(1, 13)]

    def fetch_all(_: int) -> list[bytes]:
        with requests.Session() as session:
            return [session.get(url, timeout=20).content for url in urls]

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(fetch_all, range(32)))
    assert all(result == results[0] for result in results)
