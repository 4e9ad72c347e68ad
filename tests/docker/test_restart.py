"""Up twice, down and up again: nothing changes, nothing is lost, no secret is made anew."""

from __future__ import annotations

import pytest

from tests.docker.stack import Stack, docker, wait_for

pytestmark = pytest.mark.timeout(300)


def identities(stack: Stack) -> dict[str, str]:
    """Containers of services that stay; dbt's says its version at each `up`, and ends."""
    running = {name: told["ID"] for name, told in stack.services().items() if told["State"] == "running"}
    return {name: container for name, container in running.items() if name != "dbt"}


def facts(stack: Stack) -> tuple[object, ...]:
    counts = stack.rows(
        "select (select count(*) from raw.gutenberg__books) as a, (select count(*) from marts.fct_ratings) as b, "
        "(select count(*) from bindery.landed) as c"
    )
    return counts, {run["runId"] for run in stack.runs()}, stack.secrets("secrets"), stack.secrets("secrets-admin")


def test_up_once_more_changes_nothing(stack: Stack) -> None:
    before = identities(stack)
    stack.compose("up", "-d", "--no-build")
    wait_for("every service healthy", 60, stack.healthy)
    assert identities(stack) == before


def test_down_and_up_keep_data_and_secrets(stack: Stack) -> None:
    before = facts(stack)
    stack.compose("down", "--timeout", "15")
    assert docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.project}") == ""
    stack.figures["up again, to every service healthy"] = f"{stack.up():.1f} s"
    wait_for("the UI answers", 30, stack.answers)
    after = facts(stack)
    assert after[0] == before[0]
    assert after[1] >= before[1]  # type: ignore[operator]
    assert after[2:] == before[2:]
    first = [run for run in stack.runs() if run["jobName"] == "pipeline_with_scraping"]
    assert len([run for run in first if {"key": "dagster/run_key", "value": "first-run"} in run["tags"]]) == 1
