"""Where records end in delimited text, and whether its quotes are where they should be: vectorised, over bytes.

Well-kept quotes alternate: each opening one stands at a field's start, each closing one at a field's end, or the two
are a doubled pair. Then a line's end is a record's end exactly where an even number of quotes lies before it. The first
quote that breaks the rule is reported, so that the careful reader can take over there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dagster_project.ingest.parse.dialect import Dialect

MAX_LINES = 1000
"""A record of more lines than this is looked at twice: its quote may never have been closed."""


@dataclass(slots=True)
class Quotes:
    """The quotes of a piece of text that begins at a record's start."""

    positions: Any
    """Of the quotes that count, ascending (numpy)."""
    odd: int | None
    """Where the first quote is that stands where none should; None if all are well."""

    def before(self, position: int) -> int:
        """Count the quotes before a position."""
        return int(np.searchsorted(self.positions, position))


def find_quotes(text: bytes, dialect: Dialect) -> Quotes:
    """Find the quotes of a text that begins at a record's start."""
    assert dialect.quote
    data = np.frombuffer(text, np.uint8)
    at = np.flatnonzero(data == ord(dialect.quote))
    if len(at) == 0:
        return Quotes(at, None)
    before = data[np.maximum(at - 1, 0)]
    odd_from_escape: int | None = None
    if dialect.escape and dialect.escape != dialect.quote:
        escape = ord(dialect.escape)
        escaped = (before == escape) & (at > 0)
        # An escape before an escape: which of them counts is for the careful reader to say.
        twice = escaped & (at > 1) & (data[np.maximum(at - 2, 0)] == escape)
        if twice.any():
            odd_from_escape = int(at[twice.argmax()])
        at = at[~escaped]
        before = before[~escaped]
        if len(at) == 0:
            return Quotes(at, odd_from_escape)
    last = len(data) - 1
    after = data[np.minimum(at + 1, last)]
    structural = np.zeros(256, bool)
    structural[[ord(dialect.delimiter), 10, 13]] = True
    opens = structural[before] | (at == 0)
    closes = structural[after] | (at == last)
    fine = np.empty(len(at), bool)
    fine[0::2] = opens[0::2]
    fine[1::2] = closes[1::2]
    if dialect.double_quote:
        adjacent = np.flatnonzero(at[1:] - at[:-1] == 1)
        pairs = adjacent[adjacent % 2 == 1]  # a closing quote at once followed by an opening one: a doubled quote
        fine[pairs] = True
        fine[pairs + 1] = True
    odd = None if fine.all() else int(at[(~fine).argmax()])
    if odd_from_escape is not None:
        odd = odd_from_escape if odd is None else min(odd, odd_from_escape)
    return Quotes(at, odd)


def has_bare_return(text: bytes, quotes: Quotes | None) -> bool:
    """Tell whether a carriage return without a line feed stands outside quotes."""
    if text.count(b"\r") == text.count(b"\r\n"):
        return False
    data = np.frombuffer(text, np.uint8)
    at = np.flatnonzero(data[:-1] == 13)
    at = at[data[at + 1] != 10]
    if quotes is not None:
        at = at[np.searchsorted(quotes.positions, at) % 2 == 0]
    return len(at) > 0


def last_boundary(text: bytes, limit: int, dialect: Dialect, quotes: Quotes | None) -> int:
    """Give the end of the last whole record that ends at or before ``limit``; 0 if there is none."""
    newline = dialect.newline.encode()
    escape = dialect.escape.encode() if dialect.escape else None
    while True:
        stop = text.rfind(newline, 0, limit)
        if stop < 0:
            return 0
        if quotes is not None and (count := quotes.before(stop)) % 2:
            limit = int(quotes.positions[count - 1])  # inside quotes: go before the quote that opened
            continue
        if escape and text[max(stop - 1, 0) : stop] == escape:
            limit = stop
            continue
        return stop + 1


def longest_run(text: bytes, quotes: Quotes, newline: str) -> tuple[int, int]:
    """Give the most line ends inside one pair of quotes, and where that pair opens."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(newline))
    counts = np.searchsorted(quotes.positions, ends)
    inside = counts[counts % 2 == 1]
    if len(inside) == 0:
        return 0, 0
    which, lines = np.unique(inside, return_counts=True)
    worst = int(lines.argmax())
    return int(lines[worst]), int(quotes.positions[which[worst] - 1])
