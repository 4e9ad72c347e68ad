"""What a check found: one line for people, the same fields for machines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's."""

    check: str
    """What was looked at, in a word or two."""
    status: Status
    said: str
    """What was found. Holds no secret."""
    fix: str = ""
    """What to do; there is one wherever the status isn't ok."""


def ok(check: str, said: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(check, "ok", said)


def warn(check: str, said: str, fix: str) -> Finding:
    """Say that something may hurt later, or hurts what isn't used here."""
    return Finding(check, "warn", said, fix)


def fail(check: str, said: str, fix: str) -> Finding:
    """Say that something doesn't work."""
    return Finding(check, "fail", said, fix)


def softened(findings: Iterable[Finding]) -> list[Finding]:
    """Turn failures into warnings: for what this installation may not need."""
    return [replace(each, status="warn") if each.status == "fail" else each for each in findings]
