"""The jobs of probe/ as tests see them: what their ops wrote down, what the event log says, who went on with a run."""

from __future__ import annotations

from typing import Any

from tests.docker.stack import Stack, docker, wait_for


def notes(stack: Stack, run: str) -> list[str]:
    """What the ops of a run wrote down."""
    said = docker("exec", stack.container("code"), "cat", f"/data/landing/probe/{run}.txt", check=False)
    return [line for line in said.splitlines() if not line.startswith("cat: ")]


def failures(stack: Stack, run: str) -> list[str]:
    """What the event log says of steps and runs that failed."""
    return [str(event["error"]["message"]) for event in stack.events(run) if event.get("error")]


def kinds(stack: Stack, run: str, step: str) -> list[str]:
    wanted = {"STEP_START", "STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_FAILURE", "STEP_SUCCESS"}
    found = [event for event in stack.events(run) if event.get("stepKey") == step]
    return [event["eventType"] for event in found if event.get("eventType") in wanted]


def begun(stack: Stack, run: str, seconds: float = 60) -> str:
    """Wait until the second op is at work; gives its container."""
    wait_for("the second op", seconds, lambda: "second begins" in notes(stack, run))
    return stack.step_container(run, "second")


DONE = ["first begins", "first ends", "second begins", "second ends", "third begins", "third ends"]


def asked(stack: Stack, run: str) -> bool:
    """Whether the webserver reads both of its storages."""
    try:
        return bool(stack.runs() and stack.events(run))
    except AssertionError:  # an answer of 500, for each connection that it finds closed
        return False


def lineage(stack: Stack, run: str) -> list[dict[str, Any]]:
    """A run and those that went on with it, once the last one is over."""
    family = []
    while True:
        stack.finished(run, 180)
        found = {each["runId"]: each for each in stack.runs()}
        family.append(found[run])
        if found[run]["status"] == "SUCCESS":
            return family
        children = [
            each["runId"] for each in found.values() if {"key": "dagster/parent_run_id", "value": run} in each["tags"]
        ]
        if not children:
            return family
        (run,) = children
