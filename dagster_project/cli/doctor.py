"""``bindery doctor``: what is wrong around the platform, and what to do about it.

Words and options only; what is looked at is in ``operations.doctor``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dagster_project.operations.doctor import Finding

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
