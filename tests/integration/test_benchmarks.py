"""The benchmark programs at a tiny size: every one runs, says what it should, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import inputs, rest_server
from benchmarks.__main__ import PROGRAMS
from benchmarks.measure import Figure, Run

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parents[2]
TINY = ["--scale", "0.0005", "--repeat", "1"]
LONG = ("load_files", "make_run")
"""Programs that take a minute even so: tests/soak runs them."""
FIGURES = {"code_location": 4, "load_files": 8, "load_rest": 2, "make_run": 3}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks", *TINY, *arguments]


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in LONG])
def test_a_program_measures_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measures_what_it_says(name, tmp_path, monkeypatch)


def measures_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one program; also for the suite of the long ones."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tmp_path.chmod(0o755)
    done = subprocess.run(command("--json", name), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["figures"]) == FIGURES[name]
    assert {"cores", "cpu", "python", "postgres", "load_before"} <= set(found["machine"])
    for figure in found["figures"]:
        assert figure["program"] == name
        assert len(figure["seconds"]) == 1
        assert figure["median_seconds"] > 0
        if name.startswith("load_"):
            assert figure["rows_per_second"] > 0
    if Path("/proc/self/smaps_rollup").exists():
        assert max(figure["peak_bytes"] or 0 for figure in found["figures"]) > 2**24, "a Python takes 16 MiB at least"
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_benchmark_that_is_ended_takes_its_server_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tmp_path.chmod(0o755)
    process = subprocess.Popen(command("load_rest"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (made := list(tmp_path.glob("bindery-bench-*/data/postgres/server.json"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    port = json.loads(made[0].read_text())["port"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert not list(tmp_path.iterdir())
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", port)) != 0, "the server ended with the benchmark"


def test_an_unknown_program_is_refused_by_name() -> None:
    done = subprocess.run(command("load_moon"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "load_moon" in done.stderr
    assert "load_rest" in done.stderr


def test_input_is_the_same_every_time(tmp_path: Path) -> None:
    assert list(inputs.ratings(250)) == list(inputs.ratings(250))
    pairs = [(book, reader) for book, reader, _ in inputs.ratings(1000)]
    assert len(set(pairs)) == 1000, "no pair twice, so that a merge inserts every row"
    assert rest_server.pages(25, 10) == rest_server.pages(25, 10)
    assert set(rest_server.pages(25, 10)) == {"/books", "/books?page=1", "/books?page=2", "/books?page=3"}


def test_a_figure_is_the_median_of_its_repeats_and_the_most_memory() -> None:
    figure = Figure("p", "n", rows=100)
    for seconds, peak in ((3.0, 10), (1.0, 30), (2.0, 20)):
        figure.add(Run(seconds, peak, ""))
    assert figure.document() | {"median_seconds": 2.0, "rows_per_second": 50, "peak_bytes": 30} == figure.document()
    assert "50 rows/s" in figure.line()
