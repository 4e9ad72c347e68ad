"""Checks of one field of a JSON body: what it may say, told in words where it says something else.

Which field has which check is no concern of this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from dagster_project.execution.engine_proxy.messages import Refused

Check = Callable[[str, Any], None]
"""Takes where the field is and its value; refuses, or returns."""


def deny(where: str, allowed: str) -> NoReturn:
    """Refuse a field, saying what may stand there."""
    raise Refused(f"{where} may be: {allowed}")


def check_fields(prefix: str, values: Any, rules: Mapping[str, Check]) -> None:
    """Check an object: every field by its rule; a field without a rule is refused."""
    if not isinstance(values, dict):
        deny(prefix.rstrip("."), "an object")
    for name, value in values.items():
        rule = rules.get(name)
        if rule is None:
            # Not our word, so it may be anything: shortened, and quoted so that it can't break the log's line.
            raise Refused(f"{prefix}{name[:40]!a} is no field that this proxy lets through: leave it out")
        rule(prefix + name, value)


def absent(where: str, value: Any) -> None:
    """Let nothing stand there but null."""
    if value is not None:
        deny(where, "absent")


def empty(where: str, value: Any) -> None:
    """Let stand there only what clients write for nothing."""
    # null, false, 0, "", [] or {}.
    if value:
        deny(where, "absent or empty")


def flag(where: str, value: Any) -> None:
    """Let true and false stand there."""
    if value is not None and not isinstance(value, bool):
        deny(where, "true or false")


def one_of(*allowed: str) -> Check:
    """Let one of these words stand there, or none."""

    def check(where: str, value: Any) -> None:
        if value is not None and not (isinstance(value, str) and value in ("", *allowed)):
            deny(where, " or ".join(("absent", *allowed)))

    return check


def number(least: int, most: int = 2**53) -> Check:
    """Let a whole number within bounds stand there."""

    def check(where: str, value: Any) -> None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= most):
            deny(where, f"a whole number from {least} to {most}")

    return check


def text(pattern: re.Pattern[str], words: str = "") -> Check:
    """Let text of a form stand there, or none."""

    def check(where: str, value: Any) -> None:
        if value is not None and not (isinstance(value, str) and (not value or pattern.fullmatch(value))):
            deny(where, words or f"absent or text like {pattern.pattern}")

    return check


def texts(where: str, value: Any) -> None:
    """Let a list of any texts stand there."""
    if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        deny(where, "a list of texts")


def only(*allowed: str) -> Check:
    """Let a list of nothing but these words stand there."""

    def check(where: str, value: Any) -> None:
        if value is not None and not (isinstance(value, list) and all(item in allowed for item in value)):
            deny(where, f"a list of {', '.join(allowed)}")

    return check


def mapping(keys: re.Pattern[str], values: re.Pattern[str]) -> Check:
    """Let an object of texts stand there, keys and values each of a form."""

    def check(where: str, value: Any) -> None:
        if value is not None and not (
            isinstance(value, dict)
            and all(
                keys.fullmatch(key) and isinstance(text, str) and values.fullmatch(text) for key, text in value.items()
            )
        ):
            deny(where, f"an object of {keys.pattern} with texts like {values.pattern}")

    return check


def members(rules: Mapping[str, Check]) -> Check:
    """Let an object stand there, its fields each with a rule."""

    def check(where: str, value: Any) -> None:
        if value is not None:
            check_fields(f"{where}.", value, rules)

    return check
