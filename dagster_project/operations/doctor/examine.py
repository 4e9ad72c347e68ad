"""Which checks are made, in which order, and what their findings mean for the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.operations.doctor import database, engine, machine, secrecy
from dagster_project.operations.doctor.finding import Finding, fail, softened, warn

if TYPE_CHECKING:
    from dagster_project.settings import Settings

FAILED = 1
"""Exit code where something doesn't work."""


def examine(
    settings: Settings,
    *,
    variables: Mapping[str, str],
    dotenv: Path,
    cards: Mapping[str, Iterable[secrecy.Reference]],
    mistakes: Iterable[str] = (),
    docker_wanted: bool = False,
) -> list[Finding]:
    """Make every check.

    Args:
        settings: Say which installation.
        variables: What compose reads.
        dotenv: The ``.env`` file in use.
        cards: Source -> the settings and secrets that its card names.
        mistakes: What is wrong with cards that can't be read.
        docker_wanted: Whether trouble with Docker is a failure. Without, it is only mentioned.
    """
    # In a container only the volumes in it may be written.
    data = Path(settings.landing_root) if settings.environment == "docker" else settings.data_dir
    checks: list[Callable[[], Finding | list[Finding]]] = [
        lambda: check_names(settings, variables),
        machine.check_python,
        lambda: machine.check_dbt(settings),
        lambda: machine.check_writable(data),
        lambda: machine.check_disk(data),
        machine.check_memory,
        lambda: machine.check_ports(settings),
        lambda: database.check_database(settings),
        lambda: [fail("cards", said, "`bindery check` names every mistake") for said in mistakes],
        lambda: secrecy.check_references(settings, cards),
        lambda: secrecy.check_passwords(settings),
        lambda: secrecy.check_readers(settings, dotenv),
        lambda: secrecy.check_contact(settings),
        lambda: secrecy.check_alerts(settings),
    ]
    found = [each for check in checks for each in _listed(check())]
    if settings.in_containers:
        where = warn("docker", "this is inside one of the platform's containers", "`bindery doctor docker` on the host")
        return [*found, where] if docker_wanted else found
    of_docker = engine.check_docker(settings, variables)
    return [*found, *(of_docker if docker_wanted else softened(of_docker))]


def check_names(settings: Settings, variables: Mapping[str, str]) -> list[Finding]:
    """Look for variables that are a slip of a setting's name: nobody reads them, and nobody would say so."""
    from dagster_project.settings import unknown_names

    return [
        warn("settings", f"{name} is set, and is no setting", f"did you mean {near}?")
        for name, near in unknown_names(variables, list(type(settings).model_fields)).items()
    ]


def examine_without_settings(error: Exception) -> list[Finding]:
    """Make the checks that need no settings, where those are wrong."""
    wrong = [fail("settings", line, "correct it where the line says it comes from") for line in str(error).splitlines()]
    return [*wrong, machine.check_python(), machine.check_memory(), *softened([engine.check_engine()])]


def exit_code(findings: Iterable[Finding]) -> int:
    """Give 0 where nothing fails."""
    return FAILED if any(each.status == "fail" for each in findings) else 0


def _listed(found: Finding | list[Finding]) -> list[Finding]:
    return found if isinstance(found, list) else [found]
