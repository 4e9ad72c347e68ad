"""Steps in containers: our executor, Dagster's own `docker_executor`, and processes, on the same jobs in one stack.

The stack is a compose project of its own, brought up from nothing and taken away. Two jobs are measured: a chain of
five ops that do nothing (what a step costs), and the shipped graph over a world that hasn't changed. Both executors
give their containers the same limits and volumes. The laptop's figure is `bindery run` on the same world.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cluster import place
from benchmarks.measure import ROOT, Figure, Options
from tests.docker.stack import Stack, docker, free_port, wait_for

TAG = "bench"
HERE = ROOT / "benchmarks" / "containers"
CHAINS = {
    "ours": "our executor",
    "stock": "docker_executor of Dagster",
    "processes": "processes in the run's container",
    "stock_loader": "docker_executor and loader of Dagster",
}
LOADER = "stock_loader"
GRAPHS = {"ours": "our executor", "stock": "docker_executor of Dagster"}
RUN_S = 600


def measure(options: Options) -> list[Figure]:
    """Measure every executor; repeats alternate, so that a busy minute falls on all of them."""
    chains = {kind: Figure("docker", f"chain of 5 ops, {name}") for kind, name in CHAINS.items()}
    graphs = {kind: Figure("docker", f"shipped graph again, {name}") for kind, name in GRAPHS.items()}
    overheads: dict[str, list[float]] = {}
    with stack() as made:
        whole = options.scale >= 0.1
        if whole:
            ended(made, made.launch("graph_ours"))  # the first load is no part of it
        for _ in range(options.repeat):
            for kind, figure in chains.items():
                if kind != LOADER:
                    one(made, f"chain_{kind}", figure, overheads)
            for kind, figure in graphs.items() if whole else ():
                one(made, f"graph_{kind}", figure, overheads)
        made.variables["BENCH_LOADER"] = "stock"
        made.compose("up", "-d", "--no-build", "code")
        wait_for("the code location", 60, lambda: made.loaded("bindery"))
        for _ in range(options.repeat):
            one(made, "chain_stock", chains[LOADER], overheads, name=f"chain_{LOADER}")
    for prefix, figures in (("chain", chains), ("graph", graphs)):
        for kind, figure in figures.items():
            if values := sorted(overheads.get(f"{prefix}_{kind}", ())):
                figure.notes["to STEP_START, middle"] = f"{values[len(values) // 2]:.2f} s"
        ours = sorted(overheads.get(f"{prefix}_ours", ()))
        for kind, said in (("stock", "of docker_executor's"), (LOADER, "of docker_executor's and loader's")):
            if ours and (theirs := sorted(overheads.get(f"{prefix}_{kind}", ()))):
                figures["ours"].notes[said] = f"{ours[len(ours) // 2] / theirs[len(theirs) // 2]:.2f}"
    found = [*chains.values(), *graphs.values()] if whole else list(chains.values())
    return [*found, *(laptop(options) if whole else ())]


def laptop(options: Options) -> list[Figure]:
    """Measure the same graph as processes on this machine, first and again."""
    figure = Figure("docker", "shipped graph again, bindery run (forked processes)")
    with place() as at:
        try:
            at.bindery("run", "--json")
            for _ in range(options.repeat):
                figure.add(at.bindery("run", "--json"))
        finally:
            at.bindery("world", "stop")
    return [figure]


def one(made: Stack, job: str, figure: Figure, overheads: dict[str, list[float]], name: str = "") -> None:
    """Run a job and take in how long it took, by its own event log, and what its containers used."""
    peak = Peak(made.project)
    run = made.launch(job)
    ended(made, run)
    figure.peak_bytes = max(figure.peak_bytes or 0, peak.stop())
    moments: dict[tuple[str, str], float] = {}
    for event in made.events(run):
        moments.setdefault((event.get("stepKey") or "", event.get("eventType") or ""), float(event["timestamp"]) / 1000)
    figure.seconds.append(moments["", "RUN_SUCCESS"] - moments["", "RUN_START"])
    for (step, kind), moment in moments.items():
        if kind == "STEP_WORKER_STARTING":
            overheads.setdefault(name or job, []).append(moments[step, "STEP_START"] - moment)
    leftovers = docker("ps", "-aq", "--filter", f"network={made.project}-platform", "--filter", "name=dagster-step-")
    if leftovers:
        docker("rm", "-f", *leftovers.split())


def ended(made: Stack, run: str) -> None:
    """Wait for a run.

    Raises:
        SystemExit: It failed; a figure of something that failed is none.
    """
    if (status := made.finished(run, RUN_S)) != "SUCCESS":
        told = [event["error"]["message"] for event in made.events(run) if event.get("error")]
        raise SystemExit(f"the run {run} ended as {status}: {told[:2]}")


@contextlib.contextmanager
def stack() -> Iterator[Stack]:
    """Bring the platform up with the jobs that are measured; both images are the shipped ones and a module more."""
    made = Stack(f"bench{os.getpid()}", free_port(), Path(tempfile.mkdtemp(prefix="bindery-bench-")), tag=TAG)
    made.variables["BENCH"] = str(HERE)
    made.folder.chmod(0o755)
    for name in ("sample", "ratings"):
        (made.drop / name).mkdir(parents=True)
    made.compose("build")
    for image in ("dagster", "dbt"):
        words = ["docker", "build", "--quiet", "--build-arg", f"BASE=bindery/{image}:{TAG}"]
        subprocess.run([*words, "-t", f"bindery/{image}:{TAG}", str(HERE)], check=True, capture_output=True)
    made.files.append(HERE / "compose.yaml")
    try:
        made.up()
        wait_for("the UI", 60, made.answers)
        wait_for("the code location", 60, lambda: made.loaded("bindery"))
        yield made
    finally:
        made.remove()
        shutil.rmtree(made.folder, ignore_errors=True)


class Peak:
    """Watches the memory of the containers of runs and steps, page cache left out; their sum counts."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        from docker import DockerClient

        client = DockerClient.from_env()
        while not self._ended.wait(0.3):
            used = 0
            for container in client.containers.list(filters={"network": f"{self._project}-platform"}):
                ours = container.labels.get("bindery.kind") or str(container.name).startswith("dagster-step-")
                with contextlib.suppress(Exception):  # it has ended meanwhile
                    used += memory(container.stats(stream=False, one_shot=True)) if ours else 0
            self._peak = max(self._peak, used)

    def stop(self) -> int:
        """Give the peak in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak


def memory(told: Any) -> int:
    """Read what a container uses, without page cache, from the engine's statistics."""
    stats = told.get("memory_stats", {})
    details = stats.get("stats", {})
    cache = details.get("inactive_file", details.get("total_inactive_file", 0))
    return max(0, int(stats.get("usage", 0)) - int(cache))
