"""The long ones: services killed under a run, and many runs at once. Part of `make soak`, not of `make test-docker`."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from tests.docker.probing import DONE, begun, failures, notes
from tests.docker.stack import Stack, docker, wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("nothing_left")]
MOST_RUNS = 4


@pytest.mark.parametrize("service", ["daemon", "probe"])
def test_a_run_goes_on_while_what_launched_it_is_away(probe: Stack, service: str) -> None:
    """Daemon and code server are killed under a run; both come back by themselves, and the next run is as any other."""
    run = probe.launch("three", "probe", second={"seconds": 8})
    begun(probe, run)
    probe.crash(service)
    assert probe.finished(run) == "SUCCESS", failures(probe, run)
    assert notes(probe, run) == DONE, "nothing was done twice"
    wait_for("every service healthy", 60, probe.healthy)
    wait_for("the code location", 60, lambda: probe.loaded("probe"))
    after = probe.launch("three", "probe")
    assert probe.finished(after) == "SUCCESS", failures(probe, after)
    assert notes(probe, after) == DONE


def test_ten_runs_wait_their_turn(probe: Stack) -> None:
    """At most four runs at once, and of the op with a pool at most one."""
    began = time.monotonic()
    launched = [probe.launch("queued", "probe") for _ in range(10)]
    most = 0

    def over() -> bool:
        nonlocal most
        statuses = [each["status"] for each in probe.runs() if each["runId"] in launched]
        most = max(most, sum(status in {"STARTING", "STARTED"} for status in statuses))
        assert not {"FAILURE", "CANCELED"} & set(statuses)
        return statuses == ["SUCCESS"] * 10

    wait_for("the end of ten runs", 240, over)
    probe.figures["ten runs queued at once, to the end of the last"] = f"{time.monotonic() - began:.1f} s"
    assert 1 < most <= MOST_RUNS
    said = docker("exec", probe.container("code"), "cat", "/data/landing/probe/alone.txt")
    lines = [line.split() for line in said.splitlines()]
    times = sorted((float(first), float(last)) for run, first, last in lines if run in launched)
    assert len(times) == 10
    assert all(last <= after for (_, last), (after, _) in pairwise(times)), "one at a time"
