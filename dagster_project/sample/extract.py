"""How data/works.jsonl was made: a fixed selection from Project Gutenberg's catalogue file (pg_catalog.csv).

Run `python -m dagster_project.sample extract <pg_catalog.csv> <works.jsonl>`. Only facts are taken: catalogue id,
date of issue, title, people with their years, languages, subjects, bookshelves. Works are taken whose every named
person died before 1954 (70 years) or whose author is anonymous. Nothing here runs when the sample world runs.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from dagster_project.sample.draws import draw

# Works that readers know, in the order of the popularity that the sample world gives them.
WELL_KNOWN = (
    84, 1342, 2701, 11, 345, 1513, 174, 76, 98, 1400, 2554, 1661, 768, 1260, 2600, 1399, 145, 43, 35, 36, 1184, 120,
    1232, 1952, 16, 46, 219, 1727, 6130, 74, 2542, 4300, 829, 996, 2000, 135, 2413, 236, 55, 844, 1524, 1322, 1998,
    1497, 2680, 215, 910, 175, 103, 12, 33, 244, 2852, 1257, 2610, 5230, 159, 541, 209, 161, 158, 105, 121, 141, 766,
    730, 580, 786, 599, 113, 45, 271, 289, 308, 60, 558, 155, 583, 521, 62, 78, 95, 82, 164, 696, 601, 203, 514, 1597,
    2591, 28, 41, 932, 2147, 1064, 1065, 2226, 5658, 2021, 526, 1228, 944, 3600, 3207, 3300, 4363, 59, 148, 205, 147,
    1080, 2229, 2230, 2407, 2527, 798, 796, 799, 800, 4650, 2419, 1256, 2650, 5097, 1910, 1012, 3333, 227, 228, 1004,
    1008, 3160, 1728, 1531, 1533, 1532, 1514, 2242, 2267, 2383, 1079, 600, 689, 1906, 2130, 32, 1695, 3296, 2145,
    3155, 2166, 711, 3268, 1965, 1947, 421, 6593, 6688, 507, 550, 1001, 20, 58, 1929, 2027, 1237, 2853, 1329, 2040,
    2944, 1023, 968, 821, 883, 564, 653, 4276, 6840, 402, 5946, 1026, 4078, 42, 15, 2489, 1122, 2265, 1787,
)  # fmt: skip

# How many works of each language are wanted beside the well-known ones; the order is the order of filling.
WANTED = {"fr": 42, "de": 30, "es": 7, "it": 8, "la": 5, "nl": 5, "pt": 2, "fi": 2, "en": 170}
_MOST_PER_AUTHOR = 6
_DIED_BEFORE = 1954
_PART = re.compile(
    r"\b(volume|vol\.|part|band|teil|tome|index|chapters?|book|books|complete|project gutenberg|works of|bible)\b"
    r"|vulgate|reina valera|luther nt|elberfelder",
    re.IGNORECASE,
)
_PERSON = re.compile(r"^(?P<name>.*?)(?:, (?P<life>[^,\[\]]*\d[^,\[\]]*))?(?: \[(?P<role>[^\]]+)\])?$", re.DOTALL)
_YEAR = re.compile(r"(\d+)\??\s*(BCE)?")
_NOT_A_PERSON = frozenset({"Anonymous", "Unknown", "Various"})


def extract(catalogue: Path, target: Path) -> int:
    """Write the selection from `catalogue` to `target` (JSONL, sorted by id) and return the number of works."""
    lines = [json.dumps(work, ensure_ascii=False, separators=(",", ":")) + "\n" for work in select(catalogue)]
    target.write_text("".join(lines), encoding="utf-8", newline="\n")
    return len(lines)


def select(catalogue: Path) -> list[dict[str, Any]]:
    """Return the works of the selection as JSON objects, sorted by id."""
    known = {number: rank for rank, number in enumerate(WELL_KNOWN, 1)}
    with catalogue.open(encoding="utf-8", newline="") as file:
        works = [work for row in csv.DictReader(file) if (work := _work_of(row)) is not None]
    chosen: list[dict[str, Any]] = []
    authors: Counter[str] = Counter()
    for work in works:
        if work["id"] in known:
            work["rank"] = known[work["id"]]
            chosen.append(work)
            authors[work["authors"][0][0]] += 1
    for language, wanted in WANTED.items():
        pool = [w for w in works if w["languages"][0] == language and "rank" not in w and not _PART.search(w["title"])]
        pool.sort(key=lambda w: draw("extract", w["id"]))
        for work in pool:
            author = work["authors"][0][0]
            if wanted and authors[author] < _MOST_PER_AUTHOR and len(work["title"]) <= 120:
                chosen.append(work)
                authors[author] += 1
                wanted -= 1
    return sorted(chosen, key=lambda w: int(w["id"]))


def _work_of(row: dict[str, str | None]) -> dict[str, Any] | None:
    """Return the facts of a row, or None where it isn't a text in the public domain with a named author."""
    if row["Type"] != "Text" or not row["Title"] or not row["Bookshelves"] or not row["Subjects"]:
        return None
    people = [_person_of(text) for text in _split(row["Authors"])]
    if not people or not all(_in_public_domain(name, death) for name, _, death, _ in people):
        return None
    authors = [[name, birth, death] for name, birth, death, role in people if role is None]
    if not authors:
        return None
    work: dict[str, Any] = {
        "id": int(row["Text#"] or 0),
        "issued": row["Issued"],
        "title": row["Title"].replace("\r\n", "\n"),
        "languages": _split(row["Language"]),
        "authors": authors,
    }
    for key, wanted in (("translators", "Translator"), ("editors", "Editor")):
        if found := [[name, birth, death] for name, birth, death, role in people if role == wanted]:
            work[key] = found
    work["subjects"] = _split(row["Subjects"])
    work["bookshelves"] = _split(row["Bookshelves"])
    return work


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split("; ") if part.strip()]


def _person_of(text: str) -> tuple[str, int | None, int | None, str | None]:
    """Return name, birth year, death year (BCE negative) and role of "Last, First, 1800?-1860 [Role]"."""
    match = _PERSON.match(text)
    assert match is not None  # the first group matches anything
    birth, _, death = (match["life"] or "").partition("-")
    return match["name"].strip(), _year_of(birth), _year_of(death), match["role"]


def _year_of(text: str) -> int | None:
    match = _YEAR.search(text)
    if match is None:
        return None
    return -int(match[1]) if match[2] else int(match[1])


def _in_public_domain(name: str, death: int | None) -> bool:
    return name in _NOT_A_PERSON or (death is not None and death < _DIED_BEFORE)
