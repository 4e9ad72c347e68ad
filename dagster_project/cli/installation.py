"""``bindery secrets``: the passwords of an installation in containers, and the secrets that cards name.

Words and options only; what is made and refused is in ``operations.first_secrets``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dagster_project.settings import Settings

ADMIN, STEPS, FRONT = Path("/run/bindery/admin"), Path("/run/bindery/secrets"), Path("/run/bindery/front")
GUI, REGISTRY = Path("/run/bindery/gui"), Path("/run/bindery/registry")


@click.group()
def secrets() -> None:
    """Make, show and add the passwords of an installation in containers."""


@secrets.command()
@click.option("--admin", type=click.Path(path_type=Path), default=ADMIN, show_default=True, help="For the superuser's.")
@click.option("--steps", type=click.Path(path_type=Path), default=STEPS, show_default=True, help="For the roles'.")
@click.option("--front", type=click.Path(path_type=Path), default=FRONT, show_default=True, help="For the proxy.")
@click.option("--gui", type=click.Path(path_type=Path), default=GUI, show_default=True, help="For the database GUI.")
@click.option("--registry", type=click.Path(path_type=Path), default=REGISTRY, show_default=True, help="Registry.")
def init(admin: Path, steps: Path, front: Path, gui: Path, registry: Path) -> None:
    """Make the passwords that aren't there yet; keep the others, and refuse weak ones."""
    from dagster_project.operations.first_secrets import Folders, make

    made = make(Folders(admin, steps, front, gui, registry))
    click.echo(f"made {len(made)} secrets" if made else "every secret is there")


@secrets.command()
@click.option("--admin", type=click.Path(path_type=Path), default=ADMIN, show_default=True, help="Where they are.")
def password(admin: Path) -> None:
    """Print the two logins of the UI."""
    from dagster_project.operations.first_secrets import OPERATOR, VIEWER

    for name, may in ((OPERATOR, "launches, changes"), (VIEWER, "looks")):
        try:
            value = (admin / f"{name}_password").read_text().strip()
        except OSError as error:
            raise click.ClickException(f"no password yet ({error}): `docker compose up` makes it") from None
        click.echo(f"{name:9}{value}   ({may})")


@secrets.command(name="set")
@click.argument("name")
@click.option(
    "--steps",
    type=click.Path(path_type=Path),
    help=f"Folder to keep it in; by default the one that is read: {STEPS} in containers, else `secrets` in the data "
    "directory, or BINDERY_SECRETS_DIR.",
)
def set_(name: str, steps: Path | None) -> None:
    """Keep a secret that a card refers to as {secret: NAME}; its value is read from standard input."""
    from dagster_project.settings import get_settings
    from dagster_project.settings.secret_files import write_secret

    if not name.replace("_", "").isalnum():
        raise click.ClickException(f"{name!r}: a secret's name has letters, digits and _")
    folder = steps if steps is not None else folder_of_secrets(get_settings())
    value = click.prompt("value", hide_input=True) if sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
    if not value:
        raise click.ClickException("the value is empty")
    path = folder / name.lower()
    try:
        write_secret(path, value)
    except OSError as error:
        raise click.ClickException(
            f"{path}: {error.strerror or error}; in Docker only the service `secrets` may write there: "
            f"docker compose run --rm --no-deps -T secrets bindery secrets set {name}"
        ) from None
    click.echo(f"kept {name} in {path}; steps read it from now on")


def folder_of_secrets(settings: Settings) -> Path:
    """Give the folder whose secrets this installation reads.

    Raises:
        click.ClickException: It reads none: what a task in ECS writes is gone with the task.
    """
    if settings.environment == "ecs":
        raise click.ClickException(
            "a task's own disk keeps no secrets: they are in Secrets Manager or the parameter store, where "
            "BINDERY_SECRETS_FROM says"
        )
    if settings.secrets_dir is None and settings.in_containers:
        return STEPS  # the service `secrets` has no settings: it has the volume there that the others read
    return settings.secrets_path
