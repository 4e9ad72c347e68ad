"""An API's pages into a raw table, whole processes of ``bindery run --card``: 100,000 books in pages of 100.

The server answers from memory in a process of its own. Every page is a request, an archived file and a row of the
landing log before the load begins.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cluster import Place, card_file, place
from benchmarks.measure import ROOT, Figure, Options

RECORDS = 100_000
PAGE = 100


def measure(options: Options) -> list[Figure]:
    """Measure the first fetch and load, and the same again, which finds every row unchanged."""
    records = options.size(RECORDS)
    first, again = (Figure("load_rest", f"REST pages of {PAGE}, {what}", rows=records) for what in ("new", "again"))
    with place() as at, server(records) as url:
        path = card(at, url)
        for _ in range(options.repeat):
            at.fresh()
            first.add(at.load(path, inserted=records))
            again.add(at.load(path, unchanged=records, inserted=0, updated=0))
    return [first, again]


@contextlib.contextmanager
def server(records: int) -> Iterator[str]:
    """Serve records; gives the URL."""
    command = [sys.executable, "-m", "benchmarks.rest_server", str(records), str(PAGE)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate("", timeout=10)


def card(at: Place, url: str) -> Path:
    """Write a card of the API."""
    stream = {
        "name": "books",
        "path": "/books",
        "records": "results",
        "paginator": {"type": "json_link", "next_url_path": "next"},
        "primary_key": "id",
        "write": "merge",
    }
    attributes = {"source": "bench_api", "base_url": url, "streams": [stream]}
    return card_file(
        at.folder / "api.yaml", {"type": "dagster_project.components.RestApiSource", "attributes": attributes}
    )
