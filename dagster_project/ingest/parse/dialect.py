"""How delimited text is written: delimiter, quote, escape and line ends, as declared or found in the first bytes.

Finding is by agreement: the delimiter that gives the most rows the same number of fields (more than one) wins. What a
card declares is never second-guessed, and whether there is a header is always the card's word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster_project.ingest.parse.lenient import parse_record, skip_lines

if TYPE_CHECKING:
    from dagster_project.ingest.cards.file import CsvDialect

_DELIMITERS = ",;\t|:^~\x1f\x01"
_ROWS = 200
_LOOK = 256 * 1024
"""Characters looked at to find a dialect."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How delimited text is written, all of it known."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    double_quote: bool = True
    newline: str = "\n"
    """The character that ends a line: ``\\r`` only where ``\\n`` doesn't occur."""
    skip_space: bool = False
    """Whether a quote may follow spaces after the delimiter."""


def find_dialect(sample: str, stated: CsvDialect) -> Dialect:
    """Complete what a card states by what the first characters of the file show.

    Args:
        sample: The beginning of the file, its last line perhaps cut.
        stated: The card's word.
    """
    sample = sample[:_LOOK]
    newline = "\n" if "\n" in sample or "\r" not in sample else "\r"
    sample = sample[skip_lines(sample, 0, stated.skip_lines, newline) :]
    delimiters = [stated.delimiter] if stated.delimiter else [d for d in _DELIMITERS if d in sample]
    if stated.quote is not None:
        quotes: list[str | None] = [stated.quote or None]
    else:
        quotes = ['"']
        if '"' not in sample and "'" in sample:
            quotes.append("'")
    escapes: list[str | None] = [stated.escape]
    if stated.escape is None and any(q and "\\" + q in sample for q in quotes):
        escapes.append("\\")
    best: tuple[tuple[float, ...], Dialect] | None = None
    for rank, delimiter in enumerate(delimiters):
        for quote in quotes:
            for escape in escapes:
                dialect = Dialect(delimiter, quote, escape, stated.double_quote, newline)
                score = _score(sample, dialect, rank)
                if score and (best is None or score > best[0]):
                    best = (score, dialect)
    if best is None:
        quote = stated.quote or None if stated.quote is not None else '"'
        return Dialect(stated.delimiter or ",", quote, stated.escape, stated.double_quote, newline)
    return _with_space(sample, best[1])


def _score(sample: str, dialect: Dialect, rank: int) -> tuple[float, ...] | None:
    """Say how well a dialect explains a sample; None where it explains nothing."""
    counts: Counter[int] = Counter()
    odd = 0
    used_quotes = 0
    position = 0
    while position < len(sample) and counts.total() < _ROWS:
        record = parse_record(sample, position, dialect)
        if record.end >= len(sample) and counts:
            break  # the last line may be cut
        position = record.end
        if record.blank:
            continue
        counts[len(record.fields)] += 1
        odd += record.stray or record.open
        used_quotes += record.quoted > 0
    if not counts:
        return None
    fields, agreeing = max(counts.items(), key=lambda item: (item[1], item[0]))
    if fields == 1 and dialect.delimiter != ",":
        return None
    total = counts.total()
    agreement = round(agreeing / total - odd / total, 2) if fields > 1 else 0.0
    # A quote or escape that explains no more than its absence isn't one.
    plain = (dialect.quote in ('"', None) or used_quotes > 0, dialect.escape is None)
    return (agreement, float(plain[0]), float(fields > 1), -rank / 10 + min(fields, 50) / 100, float(plain[1]))


def _with_space(sample: str, dialect: Dialect) -> Dialect:
    """Allow spaces before a quote where that is how the file is written."""
    if not dialect.quote:
        return dialect
    spaced = sample.count(f"{dialect.delimiter} {dialect.quote}")
    tight = sample.count(f"{dialect.delimiter}{dialect.quote}")
    if spaced > 2 * tight and spaced > 0:
        return Dialect(
            dialect.delimiter, dialect.quote, dialect.escape, dialect.double_quote, dialect.newline, skip_space=True
        )
    return dialect
