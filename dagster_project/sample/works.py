"""The works of the sample world: the committed real ones (data/works.jsonl) and what is derived from their facts.

A work's category (the shop's shelf, and the taste that readers have) is derived here from subjects and bookshelves.
Nothing about revisions, prices or ratings belongs here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA_FILE = Path(__file__).with_name("data") / "works.jsonl"

# Category -> words that lead to it when they are in a work's subjects or bookshelves; the first that fits wins.
# The order is the order of the shop's shelves.
_CATEGORY_WORDS: dict[str, tuple[str, ...]] = {
    "Horror": ("gothic", "horror", "ghost", "vampires", "supernatural"),
    "Science Fiction": ("science fiction", "utopias -- fiction", "time travel"),
    "Mystery": ("detective", "mystery", "crime", "private investigators"),
    "Fantasy": ("fantasy", "fairy tales", "mythology", "legends", "folklore"),
    "Poetry": ("poetry", "poems", "sonnets"),
    "Drama": ("drama", "plays", "tragedies", "comedies"),
    "Childrens": ("juvenile", "children's"),
    "Adventure": ("adventure", "sea stories", "western stories", "pirates", "treasure"),
    "Historical Fiction": ("historical fiction", "war stories"),
    "Romance": ("love stories", "courtship", "man-woman relationships"),
    "Humor": ("humor", "humour", "satire", "wit and"),
    "Philosophy": ("philosophy", "ethics", "logic", "stoics"),
    "Religion": ("religion", "christian", "theology", "sermons", "spiritual", "bible"),
    "Travel": ("travel", "voyages", "description and"),
    "Science": ("science", "evolution", "natural history", "mathematics", "psychology"),
    "Biography": ("biography", "autobiograph", "biographies", "correspondence", "diaries"),
    "Short Stories": ("short stories",),
    "History": ("history", "politics", "political", "economics"),
    "Essays": ("essays", "literature -- history", "criticism"),
    "Classics": ("fiction", "novel"),
}
CATEGORIES: tuple[str, ...] = (*_CATEGORY_WORDS, "Nonfiction")

LANGUAGES = {
    "en": "English", "fr": "French", "de": "German", "es": "Spanish", "it": "Italian", "la": "Latin", "nl": "Dutch",
    "pt": "Portuguese", "fi": "Finnish",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """A person as the catalogue writes them: "Last, First", years where known (BCE negative)."""

    name: str
    birth_year: int | None = None
    death_year: int | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One work of the catalogue."""

    id: int
    issued: str
    title: str
    languages: tuple[str, ...]
    authors: tuple[Person, ...]
    subjects: tuple[str, ...]
    bookshelves: tuple[str, ...]
    category: str
    translators: tuple[Person, ...] = ()
    editors: tuple[Person, ...] = ()
    rank: int | None = None
    """Place among the well-known works (1 = the most read), None for the others."""
    invented: bool = False
    """Made by the generator, not a real work."""


@cache
def real_works() -> tuple[Work, ...]:
    """Return the committed real works, by id."""
    with DATA_FILE.open(encoding="utf-8") as file:
        return tuple(_parse(line) for line in file)


def _parse(line: str) -> Work:
    fields = json.loads(line)
    subjects, bookshelves = tuple(fields["subjects"]), tuple(fields["bookshelves"])
    return Work(
        id=fields["id"],
        issued=fields["issued"],
        title=fields["title"],
        languages=tuple(fields["languages"]),
        authors=_people(fields["authors"]),
        translators=_people(fields.get("translators", [])),
        editors=_people(fields.get("editors", [])),
        subjects=subjects,
        bookshelves=bookshelves,
        category=category_of(subjects, bookshelves),
        rank=fields.get("rank"),
    )


def _people(rows: list[tuple[str, int | None, int | None]]) -> tuple[Person, ...]:
    return tuple(Person(*row) for row in rows)


def category_of(subjects: tuple[str, ...], bookshelves: tuple[str, ...]) -> str:
    """Return the shelf that subjects and bookshelves lead to."""
    # The "Browsing:" shelves are so broad that half of all fiction would be "Culture"; the narrow ones speak.
    text = " | ".join((*subjects, *(b for b in bookshelves if not b.startswith("Browsing:")))).lower()
    for category, words in _CATEGORY_WORDS.items():
        if any(word in text for word in words):
            return category
    return "Nonfiction"
