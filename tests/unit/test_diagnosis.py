"""What the event log says of a container that died: the cause in words, and what to change."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_project.execution.compute import CLASSES, MIB
from dagster_project.execution.diagnosis import LINES
from dagster_project.execution.docker.diagnosis import Death, death_of, explain, explain_run

SMALL = CLASSES["small"]


@pytest.mark.parametrize(
    ("state", "death", "good"),
    [
        ({"ExitCode": 0, "OOMKilled": False, "Error": ""}, Death(0, False), True),
        ({"ExitCode": 137, "OOMKilled": True, "Error": ""}, Death(137, True), False),
        # A child was ended by the kernel and the step went on: its own exit code says nothing of it.
        ({"ExitCode": 0, "OOMKilled": True, "Error": ""}, Death(0, True), False),
        ({"ExitCode": 127, "Error": " no such file \n"}, Death(127, False, "no such file"), False),
        ({"ExitCode": 1, "OOMKilled": None, "Error": None}, Death(1, False), False),
        ({}, Death(0, False), True),
    ],
)
def test_a_death_is_read_from_what_the_engine_says(state: dict[str, Any], death: Death, *, good: bool) -> None:
    assert death_of(state) == death
    assert death.good is good


def test_out_of_memory_names_the_limit_the_class_and_what_to_change() -> None:
    said = explain(Death(137, True), SMALL, 300 * MIB, ["loading", "Killed"], "bindery-step-load")
    assert said.splitlines() == [
        (
            "It ran out of memory: the kernel ended it at its limit of 1 GiB. Container bindery-step-load, compute "
            "class small (1 CPU, 1 GiB), peak memory 1 GiB."
        ),
        (
            "What to change: a larger class (`compute: {load: medium}` in the card, or the op's tag bindery/compute), "
            "or one that may grow: {class: small, on_oom: grow}. `bindery doctor compute` proposes limits from history."
        ),
        "Its last lines:",
        "  loading",
        "  Killed",
    ]


def test_a_kill_names_the_signal_and_says_that_the_step_is_not_to_blame() -> None:
    said = explain(Death(137, False), SMALL, 300 * MIB, [], "c")
    assert said.startswith("It was ended from outside by SIGKILL (exit code 137). Container c, ")
    assert "peak memory 300 MiB." in said
    assert "What to change: nothing in the step." in said
    assert said.endswith("It printed nothing.")
    assert explain(Death(143, False), SMALL, None, ["x"], "c").startswith("It was ended from outside by SIGTERM")
    assert explain(Death(128 + 99, False), SMALL, None, ["x"], "c").startswith("It was ended from outside by signal 99")


def test_an_exit_without_an_event_says_just_that() -> None:
    silent = explain(Death(0, False), SMALL, None, ["done"], "c")
    assert silent.splitlines()[0] == (
        "It ended with exit code 0 without having reported the end of its step. Container c, compute class "
        "small (1 CPU, 1 GiB)."
    )
    assert "What to change" not in silent
    assert explain(Death(3, False), SMALL, None, [], "c").startswith("It ended with exit code 3 without")


def test_a_container_that_could_not_start_shows_the_engines_words() -> None:
    said = explain(Death(127, False, 'exec: "python": not found'), SMALL, None, [], "c")
    assert said.startswith('The engine couldn\'t start it: exec: "python": not found.')
    assert "lacks the program" in said


def test_the_last_lines_are_few_and_short() -> None:
    said = explain(Death(1, False), SMALL, None, [f"{number} {'x' * 1000}" for number in range(100)], "c")
    shown = [line for line in said.splitlines() if line.startswith("  ")]
    assert len(shown) == LINES
    assert shown[-1].startswith("  99 ")
    assert max(map(len, shown)) < 450


def test_a_run_that_never_came_up_is_explained() -> None:
    said = explain_run(Death(1, False), ["Traceback", "ImportError: gone"], "bindery-run-1")
    assert said.splitlines() == [
        "Its container bindery-run-1 ended before the run had started, with exit code 1.",
        "Its last lines:",
        "  Traceback",
        "  ImportError: gone",
    ]
    assert "exit code 137, out of memory." in explain_run(Death(137, True), ["x"], "c")
    assert "exit code 127: no such file." in explain_run(Death(127, False, "no such file"), ["x"], "c")
    assert explain_run(Death(1, False), [], "c").endswith("It printed nothing.")
