"""``bindery doctor``: what is wrong around the platform, and what to do about it.

Words and options only; what is looked at is in ``operations.doctor``.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dagster import DagsterInstance, JobDefinition

    from dagster_project.operations.doctor import Finding
    from dagster_project.operations.doctor.compute import Proposal
    from dagster_project.settings import Settings

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look at Python, the database, Docker, ports, disk, memory and secrets. Exit code 1 where something doesn't work.

    Trouble with Docker is only a warning here: `bindery doctor docker` is for whoever runs the platform in it.
    """
    if context.invoked_subcommand is None:
        tell(look(docker_wanted=False), as_json)


@doctor.command()
@json_option
def docker(as_json: bool) -> None:
    """The same, and what `docker compose up` needs must be there."""
    tell(look(docker_wanted=True), as_json)


@doctor.command()
@json_option
def aws(as_json: bool) -> None:
    """Look at what ECS needs: cluster, network and the way out, images, sizes, buckets, queue, secrets, roles."""
    from dagster_project.operations.doctor.aws import examine_aws
    from dagster_project.settings import get_settings

    try:
        findings = examine_aws(get_settings())
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}: `uv sync --group aws` installs what speaks to AWS") from None
    tell(findings, as_json)


def look(*, docker_wanted: bool) -> list[Finding]:
    """Make every check of this installation."""
    from dagster_project.cli.cards import references
    from dagster_project.cli.context import shelf
    from dagster_project.operations.doctor.examine import examine, examine_without_settings
    from dagster_project.settings import SettingsError, child_environment, compose_variables, get_settings
    from dagster_project.settings.layers import env_file
    from dagster_project.settings.secret_files import SecretFileError

    try:
        settings = get_settings()
        variables = compose_variables(settings)
    except (SettingsError, SecretFileError) as error:
        return examine_without_settings(error)
    found = shelf()
    return examine(
        settings,
        variables=variables,
        dotenv=env_file(child_environment({}), settings.project_dir),
        cards={source: references(card) for source, (_, card) in found.cards.items()},
        mistakes=[str(error) for error in found.mistakes.values()],
        docker_wanted=docker_wanted,
    )


def tell(findings: Iterable[Finding], as_json: bool) -> None:
    """Print the findings, and end with their exit code."""
    from dagster_project.operations.doctor.examine import exit_code

    findings = list(findings)
    width = max(len(each.check) for each in findings)
    for each in findings:
        if as_json:
            click.echo(json.dumps(asdict(each), ensure_ascii=False))
            continue
        click.echo(f"{click.style(f'{each.status:5}', fg=COLOURS[each.status])} {each.check:{width}}  {each.said}")
        if each.fix:
            click.echo(f"{'':{width + 8}}{each.fix}")
    if not as_json:
        counted = {status: sum(each.status == status for each in findings) for status in COLOURS}
        click.echo(f"{counted['ok']} ok, {counted['warn']} warnings, {counted['fail']} failures")
    sys.exit(exit_code(findings))


@doctor.command()
@click.option("--runs", default=200, show_default=True, help="How many runs to look at, the newest first.")
@json_option
def compute(runs: int, as_json: bool) -> None:
    """Propose memory limits for steps from what they used, and say which line of which card to change.

    Steps in containers write down what they used. In Docker: `docker compose exec webserver bindery doctor compute`.
    """
    from dagster_project.cli.inspect import show
    from dagster_project.definitions import bindery
    from dagster_project.execution.compute import classes
    from dagster_project.operations.doctor import compute as steps
    from dagster_project.settings import get_settings

    settings = get_settings()
    with instance_of(settings) as instance:
        used = steps.history(instance, runs)
    job = bindery().resolve_job_def("pipeline_with_scraping")
    found = steps.proposals(used, job, classes(settings.compute_classes))
    if as_json:
        show([each.to_json() for each in found], True, "")
        return
    if not found:
        click.echo("no history: steps in containers write down what they used, and none did in these runs")
        return
    names = ("step", "now", "runs", "p95 peak", "max peak", "p95 CPU", "proposal", "why")
    show([dict(zip(names, steps.summary(each), strict=True)) for each in found], False, "")
    for line in lines_to_change(found, job):
        click.echo(line)


def lines_to_change(found: Iterable[Proposal], job: JobDefinition) -> list[str]:
    """Say for each proposal which line to change; one line for both steps of a card."""
    from dagster_project.cli.context import shelf
    from dagster_project.components.naming import fetch_op, load_op
    from dagster_project.execution.compute import COMPUTE_TAG, DEFAULT
    from dagster_project.operations.doctor import compute as steps

    wanted = {each.step: each.wanted for each in found if each.wanted is not None}
    tags = {node.name: node.tags for node in job.nodes}
    lines = []
    for source, (path, _) in shelf().cards.items():
        ops = {"fetch": fetch_op(source), "load": load_op(source)}
        if wanted.keys() & set(ops.values()):
            values = {
                step: steps.written(steps.merged(tags[op].get(COMPUTE_TAG, DEFAULT), wanted.get(op)))
                for step, op in ops.items()
            }
            wanted = {step: each for step, each in wanted.items() if step not in ops.values()}
            lines.append(steps.card_line(path, values))
    return lines + [steps.tag_line(job, step, each) for step, each in wanted.items()]


@contextlib.contextmanager
def instance_of(settings: Settings) -> Iterator[DagsterInstance]:
    """Open the instance that has the history: in a container the one that it was given, else the laptop's."""
    if settings.in_containers:
        from dagster import DagsterInstance

        with DagsterInstance.get() as instance:
            yield instance
        return
    from dagster_project import warehouse
    from dagster_project.operations.instance import open_instance, prepare_home

    warehouse.ensure_ready(settings)
    with open_instance(prepare_home(settings)) as instance:
        yield instance
