"""What people would take instead, on the same input in the same run: dlt, along its fastest ways.

Both get an empty database of the same server with the same durability. dlt keeps neither the raw bytes nor a log of
loads that says which row came from which object; ours does, with a card's defaults on.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks import inputs
from benchmarks.cluster import Place, place
from benchmarks.load_files import KEY, TYPES, card
from benchmarks.load_rest import card as rest_card
from benchmarks.load_rest import server
from benchmarks.measure import ROOT, Figure, Options, Run, timed

ROWS = 1_000_000
RECORDS = 100_000
PYTHON = ROOT / ".venv-bench" / "bin" / "python"


def measure(options: Options) -> list[Figure]:
    """Measure each task by both, one after the other.

    Raises:
        SystemExit: dlt's environment isn't there.
    """
    if not PYTHON.exists():
        raise SystemExit(f"no {PYTHON}: `make bench-peers` makes dlt's environment, and runs this")
    with place() as at:
        figures = [*files(at, options), *pages(at, options)]
    for theirs, ours in zip(figures[::2], figures[1::2], strict=True):
        ours.notes["times as fast"] = round(theirs.median / ours.median, 1)
    return figures


def files(at: Place, options: Options) -> list[Figure]:
    """Measure a million ratings: appended, merged into an empty table, merged again."""
    rows = options.size(ROWS)
    folder = at.files("peers")
    path = folder / "ratings.csv"
    inputs.write_csv(path, rows)
    names = ("CSV append, dicts", "CSV append, Arrow", "CSV merge, new", "CSV merge, identical")
    figures = {
        name: (Figure("peers", f"dlt: {name}", rows=rows), Figure("peers", f"ours: {name}", rows=rows))
        for name in names
    }
    append = card(at, "peer_append", folder, columns=TYPES, write="append")
    merge = card(at, "peer_merge", folder, columns=TYPES, **KEY)
    for _ in range(options.repeat):
        ours = {}
        at.fresh()
        ours["CSV append, Arrow"] = ours["CSV append, dicts"] = at.load(append, inserted=rows)
        ours["CSV merge, new"] = at.load(merge, inserted=rows)
        again = Path(shutil.copy(path, folder / "again.csv"))
        ours["CSV merge, identical"] = at.load(merge, unchanged=rows, inserted=0, updated=0)
        again.unlink()
        theirs = {}
        at.fresh()
        theirs["CSV append, dicts"] = dlt(at, "records", str(path))
        at.fresh()
        theirs["CSV append, Arrow"] = dlt(at, "append", str(path))
        theirs["CSV merge, new"] = dlt(at, "merge", str(path))
        theirs["CSV merge, identical"] = dlt(at, "merge", str(path))
        for name, (peer, own) in figures.items():
            peer.add(theirs[name])
            own.add(ours[name])
    return [figure for pair in figures.values() for figure in pair]


def pages(at: Place, options: Options) -> list[Figure]:
    """Measure an API's pages."""
    records = options.size(RECORDS)
    peer, own = (Figure("peers", f"{who}: REST pages, new", rows=records) for who in ("dlt", "ours"))
    with server(records) as url:
        path = rest_card(at, url)
        for _ in range(options.repeat):
            at.fresh()
            own.add(at.load(path, inserted=records))
            at.fresh()
            peer.add(dlt(at, "rest", url))
    return [peer, own]


def dlt(at: Place, task: str, source: str) -> Run:
    """Run one task by dlt, a whole process as ours is, in the place's newest database."""
    folder = at.folder / "dlt" / at.environment["BINDERY_DATABASE_NAME"]
    return timed(
        [str(PYTHON), str(Path(__file__).with_name("dlt_pipeline.py")), task, source],
        {
            "DLT_DATA_DIR": str(folder),
            "DESTINATION__POSTGRES__CREDENTIALS": at.admin_url(),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
            # As many loads at once as there are cores.
            "LOAD__WORKERS": str(os.cpu_count() or 1),
        },
    )
