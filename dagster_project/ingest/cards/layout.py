"""Which line of a file is out of line: YAML's own messages name what it met, not that a line begins too far in."""

from __future__ import annotations

import re

_ITEMS = re.compile(r"(?:-\s+)+")


def indentation(text: str, number: int) -> str | None:
    """Say how a line's indentation differs from that of the lines it belongs to; None where it doesn't.

    Args:
        text: The whole file.
        number: The line where YAML gave up, from 0.
    """
    lines = text.splitlines()
    if number >= len(lines):
        return None
    line = lines[number]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"line {number + 1} is indented by a tab; YAML wants spaces"
    own = _indent(line)
    open_levels, last = _levels(lines[:number])
    if not open_levels or own in open_levels:
        return None
    if own > open_levels[-1]:
        if last.endswith((":", "-", "|", ">", "[", "{", ",")):
            return None  # the line above opens something, for which any depth is right
        near = open_levels[-1]
    else:
        near = min(open_levels, key=lambda level: (abs(level - own), -level))
    return f"line {number + 1} is indented by {own}, its neighbours by {near}"


def _levels(lines: list[str]) -> tuple[list[int], str]:
    """Give the columns at which something is open after some lines, and the last of them without its comment."""
    levels: list[int] = []
    last = ""
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped == "---":
            levels.clear()
            continue
        at = _indent(line)
        while levels and levels[-1] > at:
            levels.pop()
        for level in (at, at + _lead(stripped)):
            if not levels or levels[-1] < level:
                levels.append(level)
        last = re.sub(r"\s+#.*$", "", stripped)
    return levels, last


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _lead(stripped: str) -> int:
    """How far behind the dashes of list items the item itself begins."""
    match = _ITEMS.match(stripped)
    return match.end() if match else 0
