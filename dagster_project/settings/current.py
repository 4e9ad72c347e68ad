"""The settings in force in this process: read once, read again when a source of theirs changed, or pinned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dagster_project.settings.aws_secrets import age
from dagster_project.settings.environment import variables
from dagster_project.settings.layers import PLAIN_NAMES, PREFIX, env_file
from dagster_project.settings.model import Settings
from dagster_project.settings.secret_files import folder_signature, read_dotenv

_cached: tuple[object, Settings] | None = None
_pinned: Settings | None = None


def get_settings() -> Settings:
    """Give the settings, read once; again when the environment, ``.env`` or the folder of secrets changed, and every
    few minutes where AWS keeps secrets.

    Raises:
        SettingsError: A value is wrong.
    """
    global _cached
    if _pinned is not None:
        return _pinned
    if _cached is not None and _cached[0] == _state_of_sources(_cached[1]):
        return _cached[1]
    settings = Settings()
    _cached = (_state_of_sources(settings), settings)
    return settings


def use_settings(settings: Settings | None) -> None:
    """Make ``get_settings`` give these settings in this process (command-line options do); None takes it back."""
    global _pinned
    _pinned = settings


def compose_variables(settings: Settings) -> Mapping[str, str]:
    """Give the variables that compose reads: the environment, and below it ``.env``.

    Raises:
        SecretFileError: ``.env`` can't be read.
    """
    return {**read_dotenv(env_file(variables(), settings.project_dir)), **variables()}


def _state_of_sources(settings: Settings) -> object:
    plain = set(PLAIN_NAMES.values())
    environment = tuple((key, value) for key, value in variables().items() if key.startswith(PREFIX) or key in plain)
    dotenv = env_file(variables(), settings.project_dir)
    try:
        found = dotenv.stat()
        signature: object = (found.st_mtime_ns, found.st_ino, found.st_size)
    except OSError:
        signature = None
    named = [Path(value) for key, value in environment if key.endswith("_FILE") and value]
    times = tuple(path.stat().st_mtime_ns if path.exists() else None for path in named)
    files = (dotenv, signature, times, folder_signature(settings.secrets_path))
    return environment, Path.cwd(), files, age(settings.secrets_from)
