r"""Files into raw tables, whole processes of ``bindery run --card``: append and merge, CSV and JSON lines.

Beside them ``psql \copy`` of the same file into the same columns, lineage included, without a key: the limit. A card's
defaults are on: landing archive, sha256, lineage, load log, quarantine ready.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks import inputs
from benchmarks.cluster import Place, card_file, place
from benchmarks.measure import Figure, Options

ROWS = 1_000_000
TYPES = {name: {"type": "bigint"} for name in ("book_id", "user_id", "rating")}
KEY = {"primary_key": ["book_id", "user_id"], "write": "merge"}


def measure(options: Options) -> list[Figure]:
    """Measure every way of loading the same ratings."""
    with place() as at:
        return [*appends(at, options), *merges(at, options), *real_merges(at, options)]


def appends(at: Place, options: Options) -> list[Figure]:
    """Measure loads into a table without a key."""
    rows = options.size(ROWS)
    csv, jsonl = at.files("csv"), at.files("jsonl")
    inputs.write_csv(csv / "ratings.csv", rows)
    inputs.write_jsonl(jsonl / "ratings.jsonl", rows)
    copied = figure("psql \\copy, the limit", rows)
    loads = {
        "CSV append, types declared": card(at, "typed", csv, columns=TYPES, write="append"),
        "CSV append, types found": card(at, "found", csv, write="append"),
        "JSONL append, types declared": card(at, "lines", jsonl, columns=TYPES, write="append"),
        "JSONL append, types found": card(at, "open_lines", jsonl, write="append"),
    }
    figures = {name: figure(name, rows) for name in loads}
    for _ in range(options.repeat):
        at.fresh()
        at.psql(BARE)
        copied.add(at.psql(COPY.format(file=csv / "ratings.csv")))
        for name, path in loads.items():
            figures[name].add(at.load(path, inserted=rows, quarantined=0))
    return [copied, *figures.values()]


def merges(at: Place, options: Options) -> list[Figure]:
    """Measure merges: into an empty table, of what is there already, of as many rows again."""
    rows = options.size(ROWS)
    new, same, more = (figure(f"CSV merge, {what}", rows) for what in ("new table", "identical", "filled table"))
    files, others = at.files("first"), at.files("second")
    inputs.write_csv(files / "ratings.csv", rows)
    inputs.write_csv(others / "ratings.csv", rows, first_book=1_000_001)
    first, second = card(at, "merge", files, columns=TYPES, **KEY), card(at, "merge", others, columns=TYPES, **KEY)
    for _ in range(options.repeat):
        at.fresh()
        new.add(at.load(first, inserted=rows))
        again = Path(shutil.copy(files / "ratings.csv", files / "again.csv"))
        same.add(at.load(first, unchanged=rows, inserted=0, updated=0))
        again.unlink()
        more.add(at.load(second, inserted=rows))
    return [new, same, more]


def real_merges(at: Place, options: Options) -> list[Figure]:
    """Measure the merge of real ratings, where they are there."""
    if options.real_data is None:
        return []
    files = at.files("real")
    rows = inputs.unpack_real(options.real_data, files / "ratings.csv")
    path = card(at, "real", files, columns=TYPES, **KEY)
    new, same = (figure(f"CSV merge of real ratings, {what}", rows) for what in ("new", "identical"))
    for _ in range(options.repeat):
        at.fresh()
        new.add(at.load(path, quarantined=0))
        again = Path(shutil.copy(files / "ratings.csv", files / "again.csv"))
        same.add(at.load(path, inserted=0, updated=0))
        again.unlink()
    return [new, same]


def figure(name: str, rows: int) -> Figure:
    """Begin a figure of this program."""
    return Figure("load_files", name, rows=rows)


def card(at: Place, source: str, folder: Path, **stream: Any) -> Path:
    """Write a card that reads a folder."""
    attributes = {
        "source": f"bench_{source}",
        "path": str(folder),
        "settle": "0s",
        "streams": [{"name": "ratings", "files": ["*"], **stream}],
    }
    path = at.folder / f"{source}-{folder.name}.yaml"
    return card_file(path, {"type": "dagster_project.components.FileSource", "attributes": attributes})


BARE = """
create table raw.bare (book_id bigint, user_id bigint, rating bigint,
  _load_id bigint not null default current_setting('bindery.load_id')::bigint);
"""
COPY = """
set bindery.load_id = '1';
\\copy raw.bare (book_id, user_id, rating) from '{file}' csv header
"""
