"""The committed works against Project Gutenberg's own catalogue, where BINDERY_REAL_DATA names a folder with it.

Without that variable this file holds no test: nothing is collected, nothing is skipped.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

from dagster_project.sample.extract import extract
from dagster_project.sample.works import DATA_FILE

_REAL_DATA = os.environ.get("BINDERY_REAL_DATA")

if _REAL_DATA:
    _CATALOGUE = next(Path(_REAL_DATA, "gutenberg").rglob("pg_catalog.csv"))

    def test_committed_works_say_what_the_catalogue_says() -> None:
        with _CATALOGUE.open(encoding="utf-8", newline="") as file:
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
            for name, birth, death in (
                person for key in ("authors", "translators", "editors") for person in work.get(key, [])
            ):
                assert name in row["Authors"]
                assert all(str(abs(year)) in row["Authors"] for year in (birth, death) if year is not None)
                assert death is None or death < 1954

    def test_the_extraction_gives_the_committed_file(tmp_path: Path) -> None:
        assert extract(_CATALOGUE, tmp_path / "works.jsonl") >= 400
        assert (tmp_path / "works.jsonl").read_bytes() == DATA_FILE.read_bytes()
