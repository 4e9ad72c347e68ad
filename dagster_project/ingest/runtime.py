"""What the engine is given to work with: values, connections, folders, and somebody who watches.

The engine reads neither the environment nor the platform's settings; who calls it (command line, Dagster, tests)
fills a ``Runtime``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dagster_project.ingest.cards.base import SecretRef, SettingRef

if TYPE_CHECKING:
    import psycopg


class Resolver(Protocol):
    """Gives what a card's references stand for; raises by name when one is missing."""

    def resolve_setting(self, name: str) -> str:
        """Give the setting's text."""
        ...

    def resolve_secret(self, name: str) -> str:
        """Give the secret's text. Never log it."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """One sign of life from long work."""

    source: str
    stage: str
    """``fetch``, ``land``, ``parse``, ``copy``, ``merge``, ``commit``, ``done``, ``warning``."""
    stream: str | None = None
    message: str | None = None
    rows: int | None = None
    bytes: int | None = None
    requests: int | None = None
    total: int | None = None
    """Of rows or requests, where it is known."""


def _silent(_: Progress) -> None:
    return None


@dataclass(slots=True)
class Runtime:
    """Everything that a fetch or a load needs from outside."""

    connect: Callable[[], psycopg.Connection]
    """Open a new connection as the loader, not in autocommit, time zone UTC."""
    landing: str
    """Root of the archive: a folder's path (a bucket's URL later)."""
    resolver: Resolver
    contact: str = "https://example.org/contact-not-set"
    """Who is behind the requests: part of the User-Agent."""
    base: Path = field(default_factory=Path.cwd)
    """What relative paths in cards are relative to."""
    progress: Callable[[Progress], None] = _silent
    load_bytes: int = 1024**3
    """Landed bytes that one load takes of several waiting batches, about; a single batch is never split. Dropped files
    are put into batches of as much."""
    run_id: str | None = None
    """The orchestrator's run, for the load log."""
    code: str | None = None
    """Version or commit of the code, for the load log."""
    checkpoint: Callable[[str], None] = lambda _stage: None
    """Called at named stages (``fetch``, ``land``, ``copy``, ``before_commit``, ...): a test kills here."""

    def text(self, value: str | int | SettingRef | SecretRef) -> str:
        """Give a card's value as text, following references."""
        if isinstance(value, SettingRef):
            return self.resolver.resolve_setting(value.setting)
        if isinstance(value, SecretRef):
            return self.resolver.resolve_secret(value.secret)
        return str(value)

    def number(self, value: int | SettingRef) -> int:
        """Give a card's whole number, following references.

        Raises:
            CardError: The setting holds something else.
        """
        from dagster_project.ingest.errors import CardError

        text = self.text(value)
        try:
            return int(text)
        except ValueError:
            name = value.setting if isinstance(value, SettingRef) else "value"
            raise CardError(f"{name} should be a whole number, got {text!r}") from None
