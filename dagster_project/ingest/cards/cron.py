"""Cron expressions: five fields, or a name for one. Checked with the card, because no schedule is noticed by nobody.

What is accepted is what the orchestrator's own reader takes; a test holds the two against each other.
"""

from __future__ import annotations

import re
from calendar import day_abbr, month_abbr

ALIASES = {
    "@hourly": "0 * * * *",
    "@midnight": "0 0 * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = {name.lower(): number for number, name in enumerate(month_abbr) if name}
_DAYS = {name.lower(): (number + 1) % 7 for number, name in enumerate(day_abbr)}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NTH = re.compile(r"^(\w+)#[1-5]$")
_PART = re.compile(r"(?P<from>\*|\w+)(?:-(?P<to>\w+))?(?:/(?P<step>\d+))?")
_EXAMPLE = "such as `0 6 * * *` (minute, hour, day of the month, month, day of the week) or `@daily`"


def cron_fields(text: str) -> str:
    """Give the five fields of a cron expression, a name's spelled out.

    Raises:
        ValueError: It is none; the message names the field.
    """
    text = text.strip()
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            raise ValueError(f"{text!r} is no cron expression: expected one of {', '.join(ALIASES)}, or five fields")
        return ALIASES[text.lower()]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{text!r} is no cron expression: expected five fields, {_EXAMPLE}; got {len(fields)}")
    _, _, days, months, _ = [_values(text, field, *rule) for field, rule in zip(fields, _FIELDS, strict=True)]
    if all(min(days) > _LONGEST[month - 1] for month in months):
        raise ValueError(f"{text!r} is never: those months have no day {min(days)}")
    return " ".join(fields)


def _values(text: str, field: str, what: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in field.lower().split(","):
        if (what.startswith("day") and part == "?") or (what == "day of the month" and part == "l"):
            found.update(range(low, high + 1) if part == "?" else {28})
            continue
        if what == "day of the week":
            part = _NTH.sub(r"\1", part)
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{text!r} is no cron expression: {part!r} is no {what}; {_EXAMPLE}")
        if match["from"] == "*":
            if match["to"]:
                raise ValueError(f"{text!r} is no cron expression: {part!r} is no {what}; {_EXAMPLE}")
            first, last = low, high
        else:
            first = _number(text, match["from"], what, low, high, names)
            last = _number(text, match["to"], what, low, high, names) if match["to"] else first
            if match["step"] and not match["to"]:
                last = high
        step = int(match["step"] or 1)
        if step < 1:
            raise ValueError(f"{text!r} is no cron expression: {part!r} has a step of 0; {_EXAMPLE}")
        # From Friday to Monday: past the end it goes on at the beginning.
        found.update(
            range(first, last + 1, step) if first <= last else {*range(first, high + 1), *range(low, last + 1)}
        )
    return found


def _number(text: str, word: str, what: str, low: int, high: int, names: dict[str, int]) -> int:
    number = names.get(word, int(word) if word.isascii() and word.isdecimal() else -1)
    if not low <= number <= high:
        raise ValueError(f"{text!r} is no cron expression: the {what} is {low} to {high}, got {word!r}")
    return number
