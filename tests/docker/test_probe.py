"""What breaks, breaks well: steps and runs that are killed, run out of memory, are ended, on jobs made for that."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.docker.probing import DONE, asked, begun, failures, kinds, lineage, notes
from tests.docker.stack import TERMINATE, Stack, docker, wait_for

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("nothing_left")]
CANCELS_S = 5
NOTICED_S = 30


def test_three_ops_run_in_three_containers_with_the_limits_they_ask_for(probe: Stack) -> None:
    run = probe.launch("three", "probe", second={"seconds": 6})
    told = docker(
        *(
            "inspect",
            "-f",
            "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.Config.User}}",
        ),
        probe.step_container(run, "first", 60),
    )
    assert told == f"{400 * 2**20} {400 * 2**20} 500000000 10001:10001"
    shown = docker("inspect", begun(probe, run))
    for name, value in probe.secrets("secrets").items():
        assert value.strip() not in shown, name
    assert probe.finished(run) == "SUCCESS"
    assert notes(probe, run) == DONE


def test_a_step_that_is_killed_is_diagnosed_and_tried_again(probe: Stack) -> None:
    run = probe.launch("three", "probe", second={"seconds": 8})
    docker("kill", "--signal", "KILL", begun(probe, run))
    assert probe.finished(run) == "SUCCESS", failures(probe, run)
    (said,) = [each for each in failures(probe, run) if "SIGKILL" in each]
    assert "It was ended from outside by SIGKILL (exit code 137)" in said
    assert "compute class small (1 CPU, 1 GiB)" in said
    assert "the last line before the sleep" in said
    assert "What to change: nothing in the step" in said
    assert kinds(probe, run, "second") == ["STEP_START", "STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_SUCCESS"]
    assert notes(probe, run) == [*DONE[:3], *DONE[2:]]


def test_a_step_that_ran_out_of_memory_says_so(probe: Stack) -> None:
    run = probe.launch("starves", "probe")
    assert probe.finished(run) == "FAILURE"
    said = "\n".join(failures(probe, run))
    assert "It ran out of memory: the kernel ended it at its limit of 300 MiB" in said
    assert "What to change: a larger class" in said
    assert "on_oom: grow" in said
    assert kinds(probe, run, "hungry")[-1] == "STEP_FAILURE"


def test_a_step_that_may_grow_gets_the_next_class(probe: Stack) -> None:
    run = probe.launch("grows", "probe")
    assert probe.finished(run) == "SUCCESS", failures(probe, run)
    assert "It ran out of memory: the kernel ended it at its limit of 300 MiB" in "\n".join(failures(probe, run))
    starts = [
        str(event.get("message"))
        for event in probe.events(run)
        if "Starting the container" in str(event.get("message"))
    ]
    assert len(starts) == 2
    assert "300 MiB" in starts[0]
    assert "1 GiB" in starts[1]


def test_terminating_ends_run_and_steps_within_seconds(probe: Stack) -> None:
    run = probe.launch("three", "probe", second={"seconds": 600})
    begun(probe, run)
    told = probe.graphql(TERMINATE, "viewer", run=run)["terminateRun"]
    assert told["__typename"] in {"UnauthorizedError", "TerminateRunFailure"}
    assert probe.status(run) == "STARTED", "a viewer ends nothing"
    began = time.monotonic()
    assert probe.graphql(TERMINATE, run=run)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    assert probe.finished(run, 30) == "CANCELED"
    wait_for("its containers' end", 30, lambda: not probe.containers(f"bindery.run={run}"), 0.1)
    took = time.monotonic() - began
    probe.figures["terminate: to CANCELED, no container running"] = f"{took:.1f} s"
    assert took <= CANCELS_S
    assert "second ends" not in notes(probe, run)


def test_a_run_whose_worker_is_killed_goes_on_where_it_stood(probe: Stack) -> None:
    run = probe.launch("three", "probe", second={"seconds": 40})
    begun(probe, run)
    (worker,) = probe.containers(f"bindery.run={run}", "bindery.kind=run")
    docker("kill", "--signal", "KILL", worker)
    began = time.monotonic()
    wait_for("another worker", NOTICED_S + 15, lambda: probe.containers(f"bindery.run={run}", "bindery.kind=run"))
    took = time.monotonic() - began
    probe.figures["run's worker killed: to the next worker"] = f"{took:.1f} s"
    assert took <= NOTICED_S
    assert probe.finished(run) == "SUCCESS", failures(probe, run)
    assert notes(probe, run) == DONE, "nothing was done twice"


def test_a_run_that_never_came_up_fails_with_the_reason(probe: Stack) -> None:
    run = probe.launch("three", "probe")

    def worker() -> Any:
        return probe.containers(f"bindery.run={run}", "bindery.kind=run")

    (container,) = wait_for("its container", 30, worker, 0.05)
    docker("kill", "--signal", "KILL", container)
    began = time.monotonic()
    assert probe.finished(run, NOTICED_S + 30) == "FAILURE"
    took = time.monotonic() - began
    probe.figures["STARTING run's container killed: to FAILURE"] = f"{took:.1f} s"
    assert took <= NOTICED_S
    said = "\n".join(str(event.get("message")) for event in probe.events(run))
    assert "ended before the run had started, with exit code 137" in said
    # It is tried once more, as a run of its own.
    again = wait_for(
        "the next try",
        60,
        lambda: [each for each in probe.runs() if {"key": "dagster/parent_run_id", "value": run} in each["tags"]],
    )
    assert probe.finished(again[0]["runId"]) == "SUCCESS"
    assert notes(probe, again[0]["runId"]) == DONE


def test_a_database_that_is_killed_costs_nothing_but_time(probe: Stack) -> None:
    run = probe.launch("three", "probe", second={"seconds": 8})
    begun(probe, run)
    probe.crash("postgres")
    began = time.monotonic()
    wait_for("every service healthy", 60, probe.healthy)
    probe.figures["Postgres killed: to every service healthy"] = f"{time.monotonic() - began:.1f} s"
    # The webserver, Dagster's own program, finds out that a connection is gone when it uses it: one error each.
    wait_for("the webserver's new connections", 30, lambda: asked(probe, run) and asked(probe, run))
    # By itself, or taken up by another worker, or by a run that goes on where this one stood.
    family = lineage(probe, run)
    assert family[-1]["status"] == "SUCCESS", [failures(probe, each["runId"]) for each in family]
    done = [line for each in family for line in notes(probe, each["runId"])]
    ended = [line for line in done if line.endswith("ends")]
    assert ended == ["first ends", "second ends", "third ends"], "no op ended twice, none is missing"
