"""The committed works against Project Gutenberg's own catalogue."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dagster_project.sample.extract import extract
from dagster_project.sample.works import DATA_FILE


@pytest.fixture
def catalogue(real_data: Path) -> Path:
    """The catalogue file that the works were taken from."""
    (path,) = (real_data / "gutenberg").rglob("pg_catalog.csv")
    return path


def test_committed_works_say_what_the_catalogue_says(catalogue: Path) -> None:
    with catalogue.open(encoding="utf-8", newline="") as file:
        rows = {row["Text#"]: row for row in csv.DictReader(file)}
    works = [json.loads(line) for line in DATA_FILE.read_text(encoding="utf-8").splitlines()]
    assert len(works) >= 400
    for work in works:
        row = rows[str(work["id"])]
        assert row["Type"] == "Text"
        assert work["title"] == row["Title"]
        assert work["issued"] == row["Issued"]
        assert "; ".join(work["languages"]) == row["Language"]
        assert "; ".join(work["subjects"]) == row["Subjects"]
        assert "; ".join(work["bookshelves"]) == row["Bookshelves"]
        people = [person for key in ("authors", "translators", "editors") for person in work.get(key, [])]
        assert people
        for name, birth, death in people:
            assert name in row["Authors"]
            assert all(str(abs(year)) in row["Authors"] for year in (birth, death) if year is not None)
            assert death is None or death < 1954


def test_the_extraction_gives_the_committed_file(catalogue: Path, tmp_path: Path) -> None:
    assert extract(catalogue, tmp_path / "works.jsonl") >= 400
    assert (tmp_path / "works.jsonl").read_bytes() == DATA_FILE.read_bytes()
