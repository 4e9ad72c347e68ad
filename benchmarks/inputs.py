"""Input that is the same every time: ratings shaped like those of goodbooks, as CSV and as JSON lines."""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

REAL = Path("goodbooks", "v1", "ratings.csv.zip")
READERS = 53_425
PER_BOOK = 98


def ratings(rows: int, first_book: int = 1) -> Iterator[tuple[int, int, int]]:
    """Give book, reader and rating, by book; no pair twice."""
    generator = random.Random(first_book)
    for start in range(0, rows, PER_BOOK):
        book = first_book + start // PER_BOOK
        for reader in generator.sample(range(1, READERS + 1), min(PER_BOOK, rows - start)):
            yield book, reader, generator.randrange(1, 6)


def write_csv(path: Path, rows: int, first_book: int = 1) -> int:
    """Write a file of ratings; returns how many."""
    with path.open("w") as file:
        file.write("book_id,user_id,rating\n")
        file.writelines(f"{book},{reader},{rating}\n" for book, reader, rating in ratings(rows, first_book))
    return rows


def write_jsonl(path: Path, rows: int) -> int:
    """Write the same ratings as one JSON object a line; returns how many."""
    with path.open("w") as file:
        file.writelines(
            f'{{"book_id": {book}, "user_id": {reader}, "rating": {rating}}}\n'
            for book, reader, rating in ratings(rows)
        )
    return rows


def unpack_real(folder: Path, path: Path) -> int:
    """Write the real ratings (goodbooks' first version: 981,756, some twice); returns how many."""
    with zipfile.ZipFile(folder / REAL) as archive, archive.open("ratings.csv") as source, path.open("wb") as file:
        shutil.copyfileobj(source, file)
    with path.open("rb") as lines:
        return sum(1 for _ in lines) - 1
