"""What is said about a setting that is wrong or missing: its name, what was expected, where to set it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dagster_project.settings.layers import PREFIX, default_project_dir, read_layers, setting_names

WORDS_OF_PATTERNS = {
    r"^[1-9]\d{0,5}[smhdw]$": "should be a whole number with s, m, h, d or w behind it, such as 30m or 90d",
    r"^(@(hourly|daily|weekly|monthly)|\S+ \S+ \S+ \S+ \S+)$": (
        "should be the five fields of cron, or @hourly, @daily, @weekly, @monthly"
    ),
    r"^https?://": "should begin with http:// or https://",
    r"^[a-z_][a-z0-9_]{0,50}$": "should be lower-case letters, digits and _, a letter first",
    r"^[a-z0-9][a-z0-9_-]*$": "should be lower-case letters, digits, - and _",
}
"""What people are told where a text doesn't match; pydantic would show them the expression."""
NEAR = 0.85
"""How alike two names are of which one is a slip of the other."""


def unknown_names(names: Iterable[str], known: Sequence[str]) -> dict[str, str]:
    """Give the variables that look like settings of ours and are none, each with the setting that was probably meant.

    Others of that prefix may be what a card's ``{setting: x}`` names, and are left alone.
    """
    ours = {f"{PREFIX}{field.upper()}" for field in known}
    found = {}
    for name in names:
        if name.startswith(PREFIX) and name not in ours and name.removesuffix("_FILE") not in ours:
            near = difflib.get_close_matches(name, ours, n=1, cutoff=NEAR)
            if near:
                found[name] = near[0]
    return found


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
    for problem in error.errors(include_url=False, include_input=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        pattern = problem.get("ctx", {}).get("pattern")
        reason = WORDS_OF_PATTERNS.get(str(pattern)) or problem["msg"].removeprefix("Value error, ")
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
