"""What is said about a setting that is wrong or missing: its name, what was expected, where to set it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dagster_project.settings.layers import default_project_dir, read_layers, setting_names


def explain_missing(
    name: str, expected: str, names: Sequence[str], kind: str, dotenv: Path, secrets: Path, known: Sequence[str]
) -> str:
    """Say where a value that nobody set can be set; ``known`` are names that it may be a slip of."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near and near[0] != name.lower() else ""
    return (
        f"{kind} {name!r} has no value (expected: {expected.rstrip('.')}). Set {names[0]} in the environment or in "
        f"{dotenv}, name a file with {names[0]}_FILE, or put the value into {secrets / names[0].lower()}.{hint}"
    )


def explain(
    error: ValidationError, model: type[BaseModel], environment: Mapping[str, str], arguments: Mapping[str, Any]
) -> str:
    """Say per wrong setting what came from where and what was expected; a secret's value is not repeated."""
    project_dir = Path(arguments.get("project_dir") or default_project_dir(environment)).absolute()
    layers = read_layers(environment, project_dir, arguments)
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        reason = problem["msg"].removeprefix("Value error, ")
        info = model.model_fields.get(field)
        if info is None:
            near = difflib.get_close_matches(field, list(model.model_fields), n=1)
            lines.append(f"{field}: {reason}" + (f" Did you mean {near[0]!r}?" if near else "") if field else reason)
            continue
        found = None if field in arguments else layers.find(setting_names(field))
        value = arguments.get(field, found.value if found else None)
        shown = "" if "Secret" in str(info.annotation) else f", got {str(value)!r}"
        where = found.where if found else "argument"
        lines.append(f"{setting_names(field)[0]} ({where}): {reason}{shown}. It is: {info.description}")
    return "\n".join(lines)
