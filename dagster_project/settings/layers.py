"""Where a setting's value comes from: the layers below arguments, in their order.

The environment is handed in; it is not read here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_project.settings.aws_secrets import AwsSecretError, AwsSecrets, store
from dagster_project.settings.errors import SettingsError
from dagster_project.settings.secret_files import (
    FolderContent,
    SecretFileError,
    read_dotenv,
    read_folder,
    read_secret_file,
)

PREFIX = "BINDERY_"
PLAIN_NAMES = {"sources": "SOURCES", "sample_scale": "SAMPLE_SCALE", "revision": "REVISION"}
"""Settings that `make run NAME=value` passes under a short name as well."""
ENV_FILE_VARIABLE = "BINDERY_ENV_FILE"
"""Names another ``.env`` file; empty means none. Only an environment variable, as it says where the rest is read."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value and the layer it came from."""

    value: str
    where: str


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers below arguments, read at one moment."""

    environment: Mapping[str, str]
    dotenv: Mapping[str, str]
    folder: FolderContent
    aws: AwsSecrets | None = None

    def find(self, names: Iterable[str], *, secret: bool = False) -> Found | None:
        """Give the value of the first layer that has one of the names. An empty value counts as none.

        Args:
            names: Under which it may be found.
            secret: Ask AWS as well, where it keeps secrets; what is no secret isn't looked for there.

        Raises:
            SettingsError: The layer whose turn it is has a file that can't be read, or a secret that it doesn't give.
        """
        names = tuple(names)
        for values, where in ((self.environment, "environment variable"), (self.dotenv, ".env")):
            for name in names:
                if value := values.get(name):
                    return Found(value, f"{where} {name}")
        for values in (self.environment, self.dotenv):
            for name in names:
                if path := values.get(f"{name}_FILE"):
                    try:
                        return Found(read_secret_file(Path(path).expanduser()), f"{name}_FILE {path}")
                    except SecretFileError as error:
                        raise SettingsError(f"{name}_FILE names a file that can't be used: {error}") from None
        # The folder is ours alone, so its files need no prefix.
        for name in (*names, *(name.removeprefix(PREFIX) for name in names)):
            if (entry := self.folder.values.get(name.lower())) is not None:
                return Found(entry[0], f"file {entry[1]}") if entry[0] else None
            if (reason := self.folder.unreadable.get(name.lower())) is not None:
                raise SettingsError(f"{name} is in the folder of secrets and can't be used: {reason}")
        return self._from_aws(names) if secret and self.aws is not None else None

    def _from_aws(self, names: tuple[str, ...]) -> Found | None:
        assert self.aws is not None
        bare = [name.removeprefix(PREFIX) for name in names]
        try:
            # Named as in the folder: in small letters what is ours, as the card writes it what is a card's.
            found = self.aws.find(
                [
                    *(name.lower() for name in bare if name.startswith("POSTGRES_")),
                    *bare,
                    *(name.lower() for name in bare),
                ]
            )
        except AwsSecretError as error:
            raise SettingsError(str(error)) from None
        return Found(found[0], f"{self.aws.service} {found[1]}") if found else None


def read_layers(environment: Mapping[str, str], project_dir: Path, arguments: Mapping[str, Any]) -> Layers:
    """Read ``.env`` and the folder of secrets; where they are, the layers above them say."""
    try:
        dotenv = read_dotenv(env_file(environment, project_dir))
        folder = read_folder(_secrets_dir(environment, dotenv, project_dir, arguments))
    except SecretFileError as error:
        raise SettingsError(str(error)) from None
    return Layers(environment, dotenv, folder, store(_first("secrets_from", environment, dotenv, arguments)))


def env_file(environment: Mapping[str, str], project_dir: Path) -> Path:
    """Give the path of the ``.env`` file in use."""
    named = environment.get(ENV_FILE_VARIABLE)
    if named is None:
        return project_dir / ".env"
    return (project_dir / Path(named).expanduser()) if named else Path(os.devnull)


def _secrets_dir(
    environment: Mapping[str, str], dotenv: Mapping[str, str], project_dir: Path, arguments: Mapping[str, Any]
) -> Path:
    data_dir = project_dir / Path(_first("data_dir", environment, dotenv, arguments) or ".bindery").expanduser()
    secrets_dir = _first("secrets_dir", environment, dotenv, arguments)
    return project_dir / Path(secrets_dir).expanduser() if secrets_dir else data_dir / "secrets"


def _first(
    field: str, environment: Mapping[str, str], dotenv: Mapping[str, str], arguments: Mapping[str, Any]
) -> str | None:
    name = PREFIX + field.upper()
    found = arguments.get(field) or environment.get(name) or dotenv.get(name)
    return str(found) if found else None


def default_project_dir(environment: Mapping[str, str]) -> Path:
    """Give the folder that relative paths start from: the checkout this package lies in, else the working directory."""
    if named := environment.get("BINDERY_PROJECT_DIR"):
        return Path(named).expanduser().absolute()
    checkout = Path(__file__).parents[2]
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def setting_names(field: str) -> tuple[str, ...]:
    """Give the names under which the layers may hold a field, most specific first."""
    plain = PLAIN_NAMES.get(field)
    return (PREFIX + field.upper(),) if plain is None else (PREFIX + field.upper(), plain)
