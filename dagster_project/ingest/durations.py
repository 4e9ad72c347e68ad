"""Durations as cards write them: ``500ms``, ``30s``, ``15m``, ``2h``, ``90d``, ``4w``."""

from __future__ import annotations

import re

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def spell_duration(seconds: float) -> str:
    """Write seconds as a card would, in the largest unit that divides them."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"


def parse_duration(value: object) -> object:
    """Turn a duration's text into seconds; leave numbers to the caller's type check.

    Raises:
        ValueError: The text is no duration.
    """
    if not isinstance(value, str):
        return value
    match = _DURATION.match(value)
    if not match:
        raise ValueError(f"a duration is a number with ms, s, m, h, d or w, such as 30s or 90d: got {value!r}")
    return float(match.group(1)) * _SECONDS[match.group(2)]
