"""First pages that don't say how to go on: the whole source, or a path in the card that leads nowhere?

A page that says ``next: null`` ends a stream. One without the field at all may be an API's way of saying the same, or
the card has the wrong path, and all pages but the first would stay unread without anybody noticing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

SHOWN = 12
"""Keys of an answer that are named."""


class Pager(Protocol):
    """What is asked of a paginator after each page."""

    warning: str | None
    unpaged: str | None
    paged: bool


@dataclass(slots=True)
class Ends:
    """How the runs of a stream's pages ended, all of its parents' together; kept over an interruption."""

    unpaged: str | None = None
    """Why a first page may not have been the last one."""
    paged: bool = False
    """Whether some run had a second page: then the card's path is right, and first pages without it are the whole."""
    short: bool = False
    """Whether a run ended before what the source had promised."""

    def take(self, pager: Pager) -> None:
        """Take in what a paginator knows after a page."""
        self.unpaged = self.unpaged or pager.unpaged
        self.paged = self.paged or pager.paged
        self.short = self.short or pager.warning is not None

    def state(self) -> dict[str, Any]:
        """Give what another process needs to go on; nothing where there is nothing to remember."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def doubt(self) -> str | None:
        """What a person should know before the first page is taken for everything."""
        return None if self.paged else self.unpaged


def absent(expression: Any, document: Any) -> str | None:
    """Say what the answer has where a path gives nothing; None where it says ``null`` there, which is an end.

    Args:
        expression: The compiled JMESPath.
        document: The answer.
    """
    here, walked = document, ""
    for name in _names(expression.parsed):
        if not isinstance(here, dict) or name not in here:
            break
        here = here[name]
        walked = f"{walked}.{name}" if walked else name
        if here is None:
            return None
    owner = f"`{walked}`" if walked else "the answer"
    if isinstance(here, dict):
        return f"{owner} has the keys {listed(here)}"
    return f"{owner} is {'a list' if isinstance(here, list) else 'no JSON object'}"


def listed(names: Iterable[str]) -> str:
    """Name the first few of some names."""
    found = sorted(map(str, names))
    return f"[{', '.join(found[:SHOWN])}{', ...' if len(found) > SHOWN else ''}]"


def _names(node: dict[str, Any]) -> list[str]:
    """Give the names with which a path begins: those before filters, numbers and functions."""
    names: list[str] = []
    while node["type"] in {
        "pipe",
        "projection",
        "filter_projection",
        "value_projection",
        "index_expression",
        "flatten",
    }:
        node = node["children"][0]
    if node["type"] == "field":
        return [node["value"]]
    if node["type"] == "subexpression":
        for child in node["children"]:
            names += _names(child)
            if child["type"] not in {"field", "subexpression"}:
                break
    return names
