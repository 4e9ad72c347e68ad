"""What loading the code location costs every process of every run: beside ``import dagster``, which nobody can save."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from benchmarks.measure import ROOT, Figure, Options, Run, timed

LOAD = """
import json, sys, time
clocks = lambda: (time.process_time(), time.perf_counter())
start = clocks()
import dagster
imported = clocks()
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import initialize_repository_def_from_pointer
pointer = ModuleCodePointer("dagster_project.definitions", "bindery", working_directory=sys.argv[1])
initialize_repository_def_from_pointer(pointer)
loaded = clocks()
print(json.dumps([imported[0] - start[0], imported[1] - start[1], loaded[0] - imported[0], loaded[1] - imported[1]]))
"""
REPEATS = 5
"""Times the repeats asked for: a process takes seconds, and its time varies."""


def measure(options: Options) -> list[Figure]:
    """Measure processor and wall time of both, one process a repeat."""
    once()  # parses dbt's project where that is due, and compiles modules
    names = ("import dagster, processor", "import dagster", "our definitions, processor", "our definitions")
    figures = [Figure("code_location", name) for name in names]
    for _ in range(options.repeat * (REPEATS if options.scale >= 1 else 1)):
        run, seconds = once()
        for each, value in zip(figures, seconds, strict=True):
            each.seconds.append(value)
        figures[-1].peak_bytes = max(figures[-1].peak_bytes or 0, run.peak_bytes or 0) or None
    return figures


def once(run: Callable[..., Run] = timed) -> tuple[Run, list[float]]:
    """Load the code location in a process; gives the seconds of the four figures."""
    done = run([sys.executable, "-c", LOAD, str(ROOT)])
    return done, json.loads(done.output.splitlines()[-1])
