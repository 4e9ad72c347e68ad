"""Five hundred uploads of data nobody here made, in every format, while everything is killed in turn."""

from __future__ import annotations

import csv
import io
import zipfile
from itertools import islice
from pathlib import Path

import pytest

from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.aws.uploads_soak import run, soak
from tests.aws.uploads_world import Uploads, landing_of


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_real_ratings_in_five_hundred_files_while_each_part_is_killed(
    aws: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_data: Path
) -> None:
    with zipfile.ZipFile(real_data / "goodbooks/v1/ratings.csv.zip") as archive, archive.open("ratings.csv") as file:
        lines = islice(csv.DictReader(io.TextIOWrapper(file)), 25_000)
        found = {(int(each["user_id"]), int(each["book_id"]), int(each["rating"])) for each in lines}
    with soak(aws, tmp_path, monkeypatch) as world:
        run(world, sorted(found), 500, seconds=800, every=4, rounds=6)


def test_real_files_of_every_format_arrive(aws: Moto, settings: Settings, tmp_path: Path, real_data: Path) -> None:
    world = Uploads(aws, settings, landing_of("bucket", tmp_path))
    files = [
        "books_multiformat/history-books-lite/data/books.tsv",
        "books_multiformat/history-books-lite/data/tags.csv",
        "books_multiformat/parquet_alexfmejia96/books.parquet",
        "books_multiformat/typesense_jsonl/books.jsonl",
        "books_multiformat/xlsx_ralhassa/top1_Tags.xlsx",
    ]
    for number, name in enumerate(files):
        world.put(f"in/s{number}/{name}", (real_data / name).read_bytes())
    streams = [{"name": f"s{n}", "prefix": f"s{n}/", "recipe": {"trim": True}} for n in range(len(files))]
    card = world.card(*streams, output={"path": "s3://output/ml"})
    report = world.run(card)
    for number in range(len(files)):
        rows = report.streams[f"s{number}"]
        assert rows.inserted > 0
        assert rows.inserted + rows.quarantined == rows.rows_read
        assert world.one(f"select rows from bindery.outputs where stream = 's{number}'") == rows.inserted
