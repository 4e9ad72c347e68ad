"""The process's environment: read and written here and nowhere else. What its names mean is not known here."""

from __future__ import annotations

import os
from collections.abc import Mapping


def variables() -> Mapping[str, str]:
    """Give the environment as it is at every look; nobody but ``export_environment`` changes it."""
    return os.environ


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Give the environment for a program that a person uses as their own, such as psql: theirs, and what is added."""
    return {**os.environ, **extra}


def export_environment(values: Mapping[str, str]) -> None:
    """Put values into this process's environment, for libraries and child processes that read nothing else."""
    os.environ.update(values)
