"""Cursors: where the last fetch ended, and where the next one starts.

A cursor is the largest value of a field over the records read. Timestamps and dates are compared as points in time,
numbers as numbers, everything else as text, and it is kept and sent as the source wrote it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from dagster_project.ingest.cards.base import Cursor
from dagster_project.ingest.errors import CardError
from dagster_project.ingest.fetch.document import Field

Key = tuple[int, Any]
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:(?P<sep>[Tt ])(?P<time>\d{2}:\d{2}(?::\d{2})?)(?P<fraction>[.,]\d+)?"
    r"(?P<zone>\s?(?:[Zz]|[+-]\d{2}(?::?\d{2})?))?)?"
)


class CursorTrack:
    """Follows one stream's cursor over a fetch."""

    def __init__(self, card: Cursor, start: Any, state: dict[str, Any] | None = None) -> None:
        """Begin where the last fetch ended.

        Args:
            card: What the card says.
            start: What the newest sealed batch proposed.
            state: Of the interrupted fetch that this one goes on with.

        Raises:
            CardError: ``lookback`` doesn't go with what the cursor holds.
        """
        self.field = card.field
        self.param = card.param
        self._field = Field(card.field)
        self.start = _stored(card, start)
        """The value at which the last fetch ended; None at the first one."""
        begin = card.initial if self.start is None else self.start
        if self.start is not None and card.lookback:
            begin = look_back(self.start, card.lookback)
        self.begin: str | int | None = begin
        """The value from which this fetch reads."""
        state = state or {}
        self._best: Any = state.get("best", self.start)
        self._last: Any = state.get("last")
        self._ascending: bool = state.get("ascending", True)
        self.seen: int = state.get("seen", 0)
        """Records that had the field."""
        self._best_key = key_of(self._best)
        self._last_key = key_of(self._last)
        self._is_new = newer_than(card.field, begin)

    def see(self, records: list[Any]) -> int:
        """Take note of records; give how many are new, that is above where this fetch begins or without the field."""
        fresh = 0
        for record in records:
            value = self._field.of(record)
            key = key_of(value)
            if key is None:
                fresh += 1
                continue
            self.seen += 1
            fresh += self._is_new(record)
            if self._best_key is None or (key[0] == self._best_key[0] and key > self._best_key):
                self._best, self._best_key = value, key
            if self._last_key is not None and (key[0] != self._last_key[0] or key < self._last_key):
                self._ascending = False
            self._last, self._last_key = value, key
        return fresh

    @property
    def drops_old(self) -> bool:
        """Whether the source can't be asked for what is new, so that old records are told apart here."""
        return self.param is None

    def proposed(self, *, cut: bool = False, limited: bool = False) -> dict[str, Any] | None:
        """Give where the next fetch starts.

        Args:
            cut: Whether the fetch stopped before the end. Then only a source that gives its records in the cursor's
                order may go on behind what was read: elsewhere what wasn't read would never be.
            limited: Whether the load will leave out records of what was read: then the next one starts where this did.
        """
        value = self.start if cut and (limited or not self._ascending) else self._best
        return None if value is None else {"field": self.field, "value": _plain(value)}

    def state(self) -> dict[str, Any]:
        """Give what another process needs to go on."""
        return {
            "best": _plain(self._best),
            "last": _plain(self._last),
            "ascending": self._ascending,
            "seen": self.seen,
        }


def key_of(value: Any) -> Key | None:
    """Give what a value is compared by: its kind, then number, moment or text; None where it can't be a cursor."""
    if value is None or isinstance(value, bool | list | dict) or value == "":
        return None
    if isinstance(value, int | Decimal):
        return (0, value) if not isinstance(value, Decimal) or value.is_finite() else None
    text = str(value)
    if _NUMBER.fullmatch(text):
        return 0, Decimal(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 2, text
    return 1, moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def newer_than(field: str, above: Any) -> Callable[[Any], bool]:
    """Make the test of records that a fetch began for: above a cursor, or without the field."""
    find, limit = Field(field), key_of(above)

    def is_new(record: Any) -> bool:
        key = key_of(find.of(record))
        return key is None or limit is None or key[0] != limit[0] or key > limit

    return is_new


def look_back(value: Any, seconds: float) -> str:
    """Give a timestamp or date so many seconds earlier, written the same way; a date goes back by whole days.

    Raises:
        CardError: The value is neither.
    """
    match = _MOMENT.fullmatch(str(value))
    key = key_of(value)
    if match is None or key is None or key[0] != 1:
        raise CardError(
            f"`cursor.lookback` goes with timestamps and dates in ISO 8601, but the cursor holds {str(value)!r}: leave "
            "`lookback` out"
        )
    back = timedelta(seconds=math.ceil(seconds))
    clock = match["time"]
    try:
        moment = datetime.fromisoformat(f"{match['date']}T{clock or '00:00'}") - back
    except OverflowError:
        moment = datetime.min  # noqa: DTZ901 - the zone is written back as it was
    date = f"{moment.year:04d}-{moment:%m-%d}"
    if clock is None:
        return date
    written = f"{moment:%H:%M:%S}"[: len(clock)]
    return f"{date}{match['sep']}{written}{match['fraction'] or ''}{match['zone'] or ''}"


def _stored(card: Cursor, start: Any) -> Any:
    """Read a cursor back; one of another field says nothing."""
    if isinstance(start, dict):
        return start.get("value") if start.get("field") == card.field else None
    return start


def _plain(value: Any) -> Any:
    """Write a value for JSON without losing a digit."""
    return str(value) if isinstance(value, Decimal) else value
