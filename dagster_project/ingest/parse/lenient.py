"""One record of delimited text at a time, whatever its quoting: the slow, careful reader.

The fast reader takes text whose quotes are all where they should be. What isn't comes here: a quote closes a field only
where a delimiter or a line's end follows, any other quote is part of the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.ingest.parse.dialect import Dialect


@dataclass(slots=True)
class Record:
    """One record as read."""

    end: int
    """Where the next record begins."""
    fields: list[str | None] = field(default_factory=list)
    """Texts; None for an empty field without quotes."""
    stray: bool = False
    """A quote stood where none should."""
    open: bool = False
    """The text ended inside quotes."""
    quoted: int = 0
    """Fields in quotes."""
    lines: int = 1
    """Physical lines."""

    def torn(self, text: str) -> bool:
        """Tell whether a carriage return ended it that no line feed follows."""
        return text[self.end - 1 : self.end] == "\r"

    @property
    def blank(self) -> bool:
        """Whether the line is empty."""
        return self.fields == [None] and not self.quoted


def line_end(text: str, position: int, newline: str = "\n") -> tuple[int, int]:
    """Find where a physical line's text ends and where the next line begins."""
    stop = text.find(newline, position)
    if stop < 0:
        return len(text), len(text)
    if newline == "\n" and stop > position and text[stop - 1] == "\r":
        return stop - 1, stop + 1
    return stop, stop + 1


def skip_lines(text: str, position: int, count: int, newline: str = "\n") -> int:
    """Give the position after ``count`` physical lines."""
    for _ in range(count):
        position = line_end(text, position, newline)[1]
    return position


def parse_record(text: str, position: int, dialect: Dialect) -> Record:
    """Read one record that begins at ``position``."""
    record = Record(position)
    size = len(text)
    quote = dialect.quote
    delimiter = dialect.delimiter
    while True:
        start = position
        if dialect.skip_space and quote:
            while start < size and text[start] == " ":
                start += 1
        if quote and start < size and text[start] == quote:
            value, position = _quoted(text, start + 1, dialect, record)
            record.fields.append(value)
            record.quoted += 1
        else:
            value, position = _plain(text, position, dialect)
            if quote and quote in value:
                record.stray = True
            record.fields.append(value or None)
        if position < size and text[position] == delimiter:
            position += 1
            continue
        if position < size:  # at a line's end
            position += 2 if text.startswith("\r\n", position) else 1
        record.end = position
        return record


def _plain(text: str, position: int, dialect: Dialect) -> tuple[str, int]:
    """Read a field without quotes; stop at the delimiter or the line's end."""
    size = len(text)
    ends = [
        stop
        for mark in (dialect.delimiter, "\n", "\r")
        if (stop := text.find(mark, position, _near(text, position))) >= 0
    ]
    stop = min(ends) if ends else _far(text, position, dialect)
    if not dialect.escape or dialect.escape not in text[position:stop]:
        return text[position:stop], stop
    parts: list[str] = []
    while position < size:
        character = text[position]
        if character == dialect.escape and position + 1 < size:
            parts.append(text[position + 1])
            position += 2
            continue
        if character in (dialect.delimiter, "\n", "\r"):
            break
        parts.append(character)
        position += 1
    return "".join(parts), position


def _near(text: str, position: int) -> int:
    # Bounded, or a file without one of the three marks would be searched to its end for every field.
    return min(len(text), position + 512)


def _far(text: str, position: int, dialect: Dialect) -> int:
    """Find the end of a field longer than what was looked at first."""
    size = len(text)
    while position < size:
        near = min(size, position + 65536)
        ends = [stop for mark in (dialect.delimiter, "\n", "\r") if (stop := text.find(mark, position, near)) >= 0]
        if ends:
            return min(ends)
        position = near
    return size


def _quoted(text: str, position: int, dialect: Dialect, record: Record) -> tuple[str, int]:
    """Read a field whose opening quote is behind; stop at the delimiter or the line's end after the closing one."""
    quote, escape = dialect.quote, dialect.escape
    assert quote
    size = len(text)
    parts: list[str] = []
    start = position
    while True:
        stop = text.find(quote, position)
        if escape:
            escaped = text.find(escape, position, stop if stop >= 0 else size)
            if escaped >= 0 and escaped + 1 < size and (escape != quote):
                parts.append(text[position:escaped])
                parts.append(text[escaped + 1])
                position = escaped + 2
                continue
        if stop < 0:
            parts.append(text[position:])
            record.open = True
            record.lines += text.count("\n", start)
            return "".join(parts), size
        after = text[stop + 1 : stop + 2]
        if after == quote and dialect.double_quote:
            parts.append(text[position : stop + 1])
            position = stop + 2
        elif after in (dialect.delimiter, "\n", "\r", ""):
            parts.append(text[position:stop])
            record.lines += text.count("\n", start, stop)
            return "".join(parts), stop + 1
        elif dialect.skip_space and after == " " and _only_space(text, stop + 1, dialect) is not None:
            parts.append(text[position:stop])
            record.lines += text.count("\n", start, stop)
            return "".join(parts), _only_space(text, stop + 1, dialect) or size
        else:
            parts.append(text[position : stop + 1])
            record.stray = True
            position = stop + 1


def _only_space(text: str, position: int, dialect: Dialect) -> int | None:
    """Give where the delimiter or line's end is, if only spaces are before it."""
    while position < len(text) and text[position] == " ":
        position += 1
    return position if text[position : position + 1] in (dialect.delimiter, "\n", "\r", "") else None
