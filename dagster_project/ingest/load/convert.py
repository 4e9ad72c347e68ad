"""What a *declared* type accepts beyond the shapes: the card's formats, words, zones and decimal commas.

Each function takes texts without empty ones and gives the texts that Postgres reads as the meant value, with a mask of
those that are none. Inferred types never come here: they must give their texts back.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Kind
from dagster_project.ingest.load.types import _INT64, SHAPES, all_true, fits, is_number

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import Column

Pair = tuple[pa.Array, pa.Array | None]
"""Texts for Postgres, and a mask that is true where they are well (None: everywhere)."""

_INTEGER: Final = r"^[+-]?\d+(?:\.0*)?$"
_GROUPED: Final = r"^[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+)(?:,\d+)?(?:[eE][+-]?\d{1,4})?$"
_MIDNIGHT: Final = r"[T ]00:00(?::00(?:\.0+)?)?(?:Z|[+-]00(?::?00)?)?$"
_DATE_ONLY: Final = SHAPES["date"]
_FINE_TIMESTAMP: Final = SHAPES["timestamp"].replace(r"\.\d{1,6}", r"\.\d+")
_FINE_TIMESTAMPTZ: Final = SHAPES["timestamptz"].replace(r"\.\d{1,6}", r"\.\d+")


def declared_type(rules: Column | None) -> str | None:
    """Give the type that a card states for a column, directly or by a date format or time zone."""
    if rules is None:
        return None
    if rules.type is not None:
        return rules.type
    if rules.timezone is not None:
        return "timestamptz"
    if rules.format is not None:
        if "%z" in rules.format:
            return "timestamptz"
        return "timestamp" if any(part in rules.format for part in ("%H", "%I", "%M", "%S")) else "date"
    return None


def convert(values: pa.Array, kind: Kind, data_type: str, rules: Column) -> Pair:
    """Turn texts into what a declared type takes.

    Args:
        values: Without empty texts: those are NULL in all types that come here.
        kind: What the format says of them.
        data_type: Neither ``text`` nor ``jsonb``.
        rules: What the card says.
    """
    if data_type == "bigint":
        return _bigint(values, rules)
    if data_type == "numeric":
        return _numeric(values, rules)
    if data_type == "double precision":
        return _double(values, rules)
    if data_type == "boolean":
        return _boolean(values, kind, rules)
    return _moment(pc.utf8_trim_whitespace(values), data_type, rules)


def _none_where_all(mask: pa.Array) -> pa.Array | None:
    mask = mask.fill_null(True)
    return None if all_true(mask) else mask


def _bigint(values: pa.Array, rules: Column) -> Pair:
    if fits(values, "bigint") is None:
        return values, None
    values, good = _point(pc.utf8_trim_whitespace(values), rules)
    good = _and(good, pc.match_substring_regex(values, _INTEGER).fill_null(True))
    values = pc.replace_substring_regex(values, r"\.0*$", "")
    digits = pc.utf8_ltrim(pc.replace_substring_regex(values, r"^[+-]", ""), "0")
    long = pc.and_(good, pc.greater_equal(pc.binary_length(digits), 19).fill_null(False))
    outside = [at for at in pc.indices_nonzero(long).to_pylist() if not _in_int64(values[at].as_py())]
    if outside:
        flags = good.to_pylist()
        for at in outside:
            flags[at] = False
        good = pa.array(flags, pa.bool_())
    return values, _none_where_all(good)


def _in_int64(text: str) -> bool:
    return len(text) < 40 and _INT64[0] <= int(text) <= _INT64[1]


def _point(values: pa.Array, rules: Column) -> Pair:
    """Write numbers with a decimal point, where the card says that they have a comma."""
    if rules.decimal == ".":
        return values, None
    good = pc.match_substring_regex(values, _GROUPED).fill_null(True)
    plain = pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")
    return pc.if_else(good, plain, values), good


def _and(left: pa.Array | None, right: pa.Array) -> pa.Array:
    return right if left is None else pc.and_(left, right)


def _numeric(values: pa.Array, rules: Column) -> Pair:
    values, pointed = _point(pc.utf8_trim_whitespace(values), rules)
    good = is_number(values)
    if good is None:
        return values, None if pointed is None else _none_where_all(pointed)
    return values, _none_where_all(_and(pointed, good))


def _double(values: pa.Array, rules: Column) -> Pair:
    values, good = _numeric(values, rules)
    numbers = pc.if_else(good, values, None) if good is not None else values
    finite = pc.match_substring_regex(numbers, r"\d").fill_null(False)
    # Postgres refuses what overflows or underflows; Arrow reads infinity or zero.
    size = pc.abs(pc.cast(pc.if_else(finite, numbers, None), pa.float64(), safe=False))
    lost = pc.or_(
        pc.is_inf(size).fill_null(False),
        pc.and_(
            pc.equal(size, 0.0).fill_null(False), pc.match_substring_regex(values, r"^[^eE]*[1-9]").fill_null(False)
        ),
    )
    return values, _none_where_all(_and(good, pc.invert(lost)))


def _boolean(values: pa.Array, kind: Kind, rules: Column) -> Pair:
    if kind is Kind.BOOLEAN:
        return values, None
    words = pc.utf8_lower(pc.utf8_trim_whitespace(values))
    yes = pc.is_in(words, pa.array([word.lower() for word in rules.true], pa.string()))
    no = pc.is_in(words, pa.array([word.lower() for word in rules.false], pa.string()))
    written = pc.if_else(yes, "true", pc.if_else(no, "false", None))
    known = pc.or_(pc.or_(yes, no), values.is_null())
    return pc.if_else(known, written, values), _none_where_all(known)


def _moment(values: pa.Array, data_type: str, rules: Column) -> Pair:
    """Read dates and timestamps: ISO 8601, and what the card's ``format`` says."""
    if rules.format is not None:
        values = _formatted(values, rules.format, data_type)
    zone = f" {rules.timezone}" if rules.timezone else None
    if data_type == "date":
        day = pc.replace_substring_regex(values, _MIDNIGHT, "")
        return day, _valid(day, _DATE_ONLY)
    dated = pc.match_substring_regex(values, _DATE_ONLY).fill_null(False)
    full = pc.if_else(dated, pc.binary_join_element_wise(values, "00:00:00", " "), values)
    if data_type == "timestamp":
        return full, _valid(full, _FINE_TIMESTAMP)
    naive = pc.match_substring_regex(full, _FINE_TIMESTAMP).fill_null(False)
    if zone is None:
        return values, _valid(values, _FINE_TIMESTAMPTZ)
    zoned = pc.match_substring_regex(full, _FINE_TIMESTAMPTZ).fill_null(True)
    good = pc.and_not(pc.or_(naive, zoned), pc.starts_with(full, "0000").fill_null(False))
    return pc.if_else(naive, pc.binary_join_element_wise(full, zone, ""), full), _none_where_all(good)


def _valid(values: pa.Array, shape: str) -> pa.Array | None:
    fine = pc.match_substring_regex(values, shape).fill_null(True)
    return _none_where_all(pc.and_not(fine, pc.starts_with(values, "0000").fill_null(False)))


def _formatted(values: pa.Array, formats: str, data_type: str) -> pa.Array:
    """Write in ISO 8601 what a format describes; other texts stay. Each distinct text is read once."""
    encoded = values.dictionary_encode()
    texts = [_iso(text, formats, data_type) for text in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _iso(text: str, formats: str, data_type: str) -> str:
    try:
        moment: Any = datetime.strptime(text, formats)  # noqa: DTZ007 - the zone is the card's to say
    except ValueError:
        return text
    if data_type == "date" and not any((moment.hour, moment.minute, moment.second, moment.microsecond)):
        return f"{moment.date().isoformat()}"
    return str(moment.isoformat(" "))
