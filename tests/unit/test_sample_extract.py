"""The extraction: what is taken from a catalogue row, and what is left out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dagster_project.sample.extract import extract, select
from dagster_project.sample.works import category_of

COLUMNS = ["Text#", "Type", "Issued", "Title", "Language", "Authors", "Subjects", "LoCC", "Bookshelves"]


def _catalogue(folder: Path, *rows: tuple[str, ...]) -> Path:
    path = folder / "pg_catalog.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def _row(number: int, authors: str, title: str = "A Title", **other: str) -> tuple[str, ...]:
    fields = {"Type": "Text", "Language": "en", "Subjects": "Fiction", "Bookshelves": "Browsing: Fiction", **other}
    return (
        str(number), fields["Type"], "1999-01-01", title, fields["Language"], authors, fields["Subjects"], "PR",
        fields["Bookshelves"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("authors", "expected"),
    [
        ("Stoker, Bram, 1847-1912", [["Stoker, Bram", 1847, 1912]]),
        ("Tolstoy, Leo, graf, 1828-1910", [["Tolstoy, Leo, graf", 1828, 1910]]),
        ("Wells, H. G. (Herbert George), 1866-1946", [["Wells, H. G. (Herbert George)", 1866, 1946]]),
        ("Plato, 428? BCE-348? BCE", [["Plato", -428, -348]]),
        ("Rojas, Fernando de, -1541", [["Rojas, Fernando de", None, 1541]]),
        ("Anonymous", [["Anonymous", None, None]]),
        (
            "Grimm, Jacob, 1785-1863; Grimm, Wilhelm, 1786-1859",
            [["Grimm, Jacob", 1785, 1863], ["Grimm, Wilhelm", 1786, 1859]],
        ),
    ],
)
def test_people_are_read_as_the_catalogue_writes_them(tmp_path: Path, authors: str, expected: list[object]) -> None:
    (work,) = select(_catalogue(tmp_path, _row(7000, authors)))
    assert work["authors"] == expected


def test_roles_other_than_author_go_where_they_belong(tmp_path: Path) -> None:
    people = (
        "Homer, 751? BCE-651? BCE; Butler, Samuel, 1835-1902 [Translator]; Lang, A., 1844-1912 [Editor]; "
        "X, Y, 1800-1850 [Illustrator]"
    )
    (work,) = select(_catalogue(tmp_path, _row(7000, people)))
    assert work["authors"] == [["Homer", -751, -651]]
    assert work["translators"] == [["Butler, Samuel", 1835, 1902]]
    assert work["editors"] == [["Lang, A.", 1844, 1912]]


def test_what_may_not_be_in_the_public_domain_is_left_out(tmp_path: Path) -> None:
    rows = [
        _row(7001, "Living, Author"),
        _row(7002, "Recent, Author, 1900-1990"),
        _row(7003, "Kafka, Franz, 1883-1924; Wyllie, David (Translator) [Translator]"),
        _row(7004, "Bach, J. S., 1685-1750", Type="Sound"),
        _row(7005, "", ""),
        _row(7006, "Only, Editor, 1800-1850 [Editor]"),
        _row(7007, "Poe, Edgar Allan, 1809-1849", "Works of Poe, Volume 3"),
        _row(7008, "Poe, Edgar Allan, 1809-1849", "A Tale\nand its subtitle", Language="fr; en"),
    ]
    (work,) = select(_catalogue(tmp_path, *rows))
    assert work["id"] == 7008
    assert work["title"] == "A Tale\nand its subtitle"
    assert work["languages"] == ["fr", "en"]


def test_well_known_works_are_ranked_and_one_author_does_not_fill_the_list(tmp_path: Path) -> None:
    rows = [_row(345, "Stoker, Bram, 1847-1912", "Dracula")]
    rows += [_row(7000 + n, "Prolific, Pen, 1800-1860", f"Tale {n}") for n in range(20)]
    target = tmp_path / "works.jsonl"
    assert extract(_catalogue(tmp_path, *rows), target) == 7
    works = select(tmp_path / "pg_catalog.csv")
    assert [w["id"] for w in works] == sorted(w["id"] for w in works)
    assert works[0]["rank"] == 5
    assert all("rank" not in w for w in works[1:])
    assert target.read_bytes().count(b"\n") == 7


@pytest.mark.parametrize(
    ("subjects", "shelves", "category"),
    [
        (("Vampires -- Fiction", "Love stories"), (), "Horror"),
        (("Time travel -- Fiction",), ("Science Fiction",), "Science Fiction"),
        (("Whaling -- Fiction", "Sea stories"), (), "Adventure"),
        (("Cooking",), ("Browsing: Travel & Geography",), "Nonfiction"),
        (("England -- Social life -- Fiction",), (), "Classics"),
    ],
)
def test_category_follows_from_subjects(subjects: tuple[str, ...], shelves: tuple[str, ...], category: str) -> None:
    assert category_of(subjects, shelves) == category
