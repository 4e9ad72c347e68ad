"""``make run`` on an installed checkout: the first run of a new data directory, the same again, the world's revision 2.

Installing is not in it. The first run also makes the Postgres cluster and starts the sample world. Below a scale of 0.1
one source is run, without Dagster and dbt: enough to see that the program works.
"""

from __future__ import annotations

import json

from benchmarks.cluster import Place, place
from benchmarks.measure import Figure, Options

PHASES = {"first run": "1", "again": "1", "REVISION=2": "2"}
ONE_SOURCE = ("gutenberg",)


def measure(options: Options) -> list[Figure]:
    """Measure every phase, each repeat in a data directory of its own."""
    sources = () if options.scale >= 0.1 else ONE_SOURCE
    figures = {name: Figure("make_run", f"{' '.join(('bindery run', *sources))}, {name}") for name in PHASES}
    for _ in range(options.repeat):
        with place() as at:
            try:
                for name, revision in PHASES.items():
                    materialise(at, figures[name], revision, max(0.1, min(1.0, options.scale)), sources)
            finally:
                at.bindery("world", "stop")
    return list(figures.values())


def materialise(at: Place, figure: Figure, revision: str, scale: float, sources: tuple[str, ...]) -> None:
    """Run the graph once, or the sources alone."""
    at.environment |= {"REVISION": revision, "SAMPLE_SCALE": str(scale)}
    run = at.bindery("run", *sources, "--json")
    results = [json.loads(line) for line in run.output.splitlines() if '"event": "result"' in line]
    figure.add(run)
    made = "streams" if sources else "assets"
    figure.notes = {made: sum(len(result[made]) for result in results)}
