"""What an alert is: its kind, the key that two of the same share, and its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["run", "late", "tick", "quarantine"]
STATES: tuple[Kind, ...] = ("late", "tick", "quarantine")
"""Kinds that hold or don't at every look. A failed run holds until a later one of its kind succeeds."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong."""

    key: str
    """The same for the same trouble: it is what isn't told twice."""
    kind: Kind
    title: str
    body: str = ""
