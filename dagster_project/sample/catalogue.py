"""The catalogue side of the world: which books the API lists in a revision, in which order, and what a record says.

Real works come first (by id), generated ones after them; a page of any world is computed from its position. Ids,
titles, people, languages, subjects and shelves of real works are facts; download counts, summaries and `updated_at`
are generated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dagster_project.sample.draws import draw
from dagster_project.sample.invented import FIRST_ID
from dagster_project.sample.revisions import FIRST_DAY, Cast, day_of, first_where
from dagster_project.sample.works import LANGUAGES, Person, Work

_REAL_UPDATES_FROM = FIRST_DAY - timedelta(days=200)
_INVENTED_UPDATES_FROM = FIRST_DAY - timedelta(days=40)
_INVENTED_UPDATES_SECONDS = 30 * 86400
# In revision r the generated works whose index is r * 37 modulo 101 are touched: a hundredth of them, spread evenly.
_CYCLE, _STEP = 101, 37
_STEP_INVERSE = pow(_STEP, -1, _CYCLE)


@dataclass(frozen=True, slots=True)
class Book:
    """A work as the catalogue has it in one revision."""

    work: Work
    updated_at: datetime
    withdrawn: bool
    download_count: int


class Catalogue:
    """The books of one revision."""

    def __init__(self, cast: Cast, revision: int) -> None:
        self._cast = cast
        self._revision = revision
        self._real = [self._book_of_real(w) for w in cast.catalogued if cast.born(w) <= revision]
        self._by_id = {book.work.id: book for book in self._real}
        self._invented = cast.invented_count(revision)

    def count(self, since: datetime | None = None) -> int:
        """Return how many books there are, or how many were updated at `since` or later."""
        if since is None:
            return len(self._real) + self._invented
        return len(self._real_since(since)) + _Touched(self._cast, self._revision, since).count

    def slice(self, start: int, stop: int, since: datetime | None = None) -> list[Book]:
        """Return the books from position `start` to before `stop`, of all or of those updated at `since` or later."""
        if since is None:
            real, numbers = self._real, range(self._invented)
            invented = [
                self._book_of_invented(i) for i in numbers[max(0, start - len(real)) : max(0, stop - len(real))]
            ]
            return real[start:stop] + invented
        real = self._real_since(since)
        touched = _Touched(self._cast, self._revision, since)
        places = range(touched.count)[max(0, start - len(real)) : max(0, stop - len(real))]
        return real[start:stop] + [self._book_of_invented(touched.index_at(place)) for place in places]

    def book(self, book_id: int) -> Book | None:
        """Return a book by its id."""
        if FIRST_ID <= book_id < FIRST_ID + self._invented:
            return self._book_of_invented(book_id - FIRST_ID)
        return self._by_id.get(book_id)

    def _real_since(self, since: datetime) -> list[Book]:
        return [book for book in self._real if book.updated_at >= since]

    def _book_of_real(self, work: Work) -> Book:
        seed, born = self._cast.seed, self._cast.born(work)
        gone = self._cast.withdrawn_in(work)
        withdrawn = gone is not None and gone <= self._revision
        touched = next(
            (r for r in range(self._revision, born, -1) if r == gone or draw(seed, "touched", work.id, r) % 25 == 0),
            born,
        )
        if touched == 1:
            updated = _REAL_UPDATES_FROM + timedelta(seconds=draw(seed, "updated", work.id) % (199 * 86400))
        else:
            updated = day_of(touched) + timedelta(seconds=draw(seed, "updated", work.id, touched) % 36000)
        return Book(
            work, updated, withdrawn, _downloads(work, seed) + (touched - born) * (draw("more", work.id) % 400 + 1)
        )

    def _book_of_invented(self, index: int) -> Book:
        work = self._cast.invent(index)
        touched = _last_touch(self._cast, self._revision, index)
        # Later than revision 1 it is a bulk update: all of them in the same second.
        updated = _invented_update(index, self._cast.invented_at_first) if touched == 1 else day_of(touched)
        return Book(work, updated, False, _downloads(work, self._cast.seed) + touched - 1)


def _downloads(work: Work, seed: int) -> int:
    spread = draw(seed, "downloads", work.id)
    if work.rank is not None:
        return 90_000 * 12 // (work.rank + 11) + spread % 900
    return 40 + spread % 1500


def _last_touch(cast: Cast, revision: int, index: int) -> int:
    if index >= cast.invented_at_first:
        return cast.invented_born(index)
    touched = revision - (revision - index * _STEP_INVERSE) % _CYCLE
    return touched if touched >= 2 else 1


def _invented_update(index: int, among: int) -> datetime:
    return _INVENTED_UPDATES_FROM + timedelta(seconds=index * _INVENTED_UPDATES_SECONDS // among)


class _Touched:
    """The generated works updated at `since` or later, counted and found by arithmetic, not by looking at each.

    They are: of the first `head` works of revision 1 (whose own date is too old) those touched later; the rest of
    revision 1's works; the works that later revisions added.
    """

    def __init__(self, cast: Cast, revision: int, since: datetime) -> None:
        first = cast.invented_at_first
        from_revision = first_where(2, revision, lambda r: day_of(r) >= since)
        later = range(max(from_revision, revision - _CYCLE + 1), revision + 1)
        self._classes = sorted({r * _STEP % _CYCLE for r in later})
        self._head = first_where(0, first - 1, lambda i: _invented_update(i, first) >= since) if first else 0
        self._in_head = _members_below(self._head, self._classes)
        self._tail = first - self._head
        self._added_from = max(first, cast.invented_count(from_revision - 1))
        added = max(0, cast.invented_count(revision) - self._added_from) if from_revision <= revision else 0
        self.count = self._in_head + self._tail + added

    def index_at(self, place: int) -> int:
        if place < self._in_head:
            cycle, member = divmod(place, len(self._classes))
            return cycle * _CYCLE + self._classes[member]
        place -= self._in_head
        if place < self._tail:
            return self._head + place
        return self._added_from + place - self._tail


def _members_below(bound: int, classes: list[int]) -> int:
    cycles, rest = divmod(bound, _CYCLE)
    return cycles * len(classes) + sum(1 for c in classes if c < rest)


def record_of(book: Book) -> dict[str, Any]:
    """Return a book as the API shows it (the shape of Gutendex, plus issued, updated_at and withdrawn)."""
    work = book.work
    page = f"https://www.gutenberg.org/ebooks/{work.id}"
    formats = {
        "text/html": f"{page}.html.images",
        "application/epub+zip": f"{page}.epub3.images",
        "text/plain; charset=utf-8": f"{page}.txt.utf-8",
        "application/rdf+xml": f"{page}.rdf",
        "image/jpeg": f"https://www.gutenberg.org/cache/epub/{work.id}/pg{work.id}.cover.medium.jpg",
    }
    return {
        "id": work.id,
        "title": work.title,
        "authors": [_person(p) for p in work.authors],
        "summaries": [summary_of(work)],
        "translators": [_person(p) for p in work.translators],
        "editors": [_person(p) for p in work.editors],
        "subjects": list(work.subjects),
        "bookshelves": list(work.bookshelves),
        "languages": list(work.languages),
        "copyright": False,
        "media_type": "Text",
        "formats": {} if work.invented else formats,
        "download_count": book.download_count,
        "issued": work.issued,
        "updated_at": book.updated_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "withdrawn": book.withdrawn,
    }


def summary_of(work: Work) -> str:
    """Return a sentence made from the facts of a work."""
    title = " ".join(work.title.split())
    language = " and ".join(LANGUAGES.get(code, code) for code in work.languages)
    about = "; ".join(work.subjects[:3])
    return (
        f'"{title}" by {spoken_name(work.authors[0].name)}: {work.category.lower()}, in {language}. Subjects: {about}.'
    )


def spoken_name(name: str) -> str:
    """Return "Last, First (Full Name)" as "First Last"."""
    plain = name.partition(" (")[0]
    last, _, first = plain.partition(", ")
    return f"{first.split(', ')[0]} {last}" if first else last


def _person(person: Person) -> dict[str, Any]:
    return {"name": person.name, "birth_year": person.birth_year, "death_year": person.death_year}
