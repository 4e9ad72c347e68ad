"""``bindery launch``: starts a job in a running installation and waits for its end.

Words, and the few questions asked of Dagster's own GraphQL; the run is the daemon's, so ending this command ends
nothing. In containers it runs inside the webserver's, where no login stands before it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

LAUNCH = """mutation($job: String!) { launchRun(executionParams: {runConfigData: {}, mode: "default",
  selector: {repositoryLocationName: "bindery", repositoryName: "__repository__", jobName: $job}}) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on PipelineNotFoundError { message } ... on RunConfigValidationInvalid { errors { message } } } }"""
LOOK = """query($run: ID!) { runOrError(runId: $run) { __typename ... on Run { status
    stepStats { stepKey status } } } }"""
CODES = {"SUCCESS": 0, "FAILURE": 3, "CANCELED": 1}
"""Status a run ends with -> exit code."""
POLL_SECONDS = 1.0
UNREACHABLE = "nobody answers at {url}: is the platform up? (`make up`, `make ps`)"


@click.command()
@click.argument("job")
@click.option("--url", default="http://127.0.0.1:3000/graphql", show_default=True, help="Dagster's GraphQL.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end of the run, and tell it by the exit code.")
def launch(job: str, url: str, wait: bool) -> None:
    """Launch JOB in the running installation: `bindery launch pipeline`. Exit code 3 where it fails."""
    told = ask(url, LAUNCH, job=job)["launchRun"]
    if told["__typename"] != "LaunchRunSuccess":
        several = "; ".join(str(each["message"]) for each in told.get("errors", []))
        said = told.get("message") or several or told["__typename"]
        raise click.ClickException(f"{job} was not launched: {said}")
    run = told["run"]["runId"]
    click.echo(f"launched {job}: run {run}")
    if wait:
        sys.exit(CODES[follow(url, run)])


def follow(url: str, run: str) -> str:
    """Print each step as it ends; give the status that the run ends with."""
    shown: set[str] = set()
    while True:
        told = ask(url, LOOK, run=run)["runOrError"]
        if told["__typename"] != "Run":
            raise click.ClickException(f"run {run} is gone: somebody deleted it")
        for step in told["stepStats"]:
            if step["status"] in {"SUCCESS", "FAILURE", "SKIPPED"} and step["stepKey"] not in shown:
                shown.add(step["stepKey"])
                click.echo(f"{step['status'].lower():8} {step['stepKey']}")
        if told["status"] in CODES:
            click.echo(f"run {run}: {told['status'].lower()}")
            return str(told["status"])
        time.sleep(POLL_SECONDS)


def ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    """Ask Dagster's GraphQL.

    Raises:
        click.ClickException: Nobody answers, or the answer is an error.
    """
    import requests

    try:
        answer = requests.post(url, json={"query": query, "variables": variables}, timeout=60)
        answer.raise_for_status()
        told = answer.json()
    except (requests.RequestException, json.JSONDecodeError) as error:
        raise click.ClickException(f"{UNREACHABLE.format(url=url)} ({error})") from None
    if errors := told.get("errors"):
        raise click.ClickException("; ".join(str(each.get("message")) for each in errors))
    data: dict[str, Any] = told["data"]
    return data
