"""The proof that the texts of a column fit its Postgres type, and their form for COPY.

Shapes are in ``types``, what declared types take beyond them in ``convert``; this module joins them with what the
format says of a text (its ``Kind``) and with JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Kind
from dagster_project.ingest.load.convert import convert
from dagster_project.ingest.load.types import TYPES, UNKNOWN, all_true, fits, is_number

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import Column

_RAW_JSON: Final = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.BOOLEAN, Kind.JSON})
_NUMBERS: Final = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.DOUBLE})
_OF_STRINGS: Final = frozenset({"date", "timestamp", "timestamptz"})
_SPECIAL: Final = r'["\\\x00-\x1f]'


@dataclass(slots=True)
class Proven:
    """A column ready for COPY."""

    values: pa.Array
    """Texts as Postgres reads them; null is NULL."""
    good: pa.Array | None
    """True where the text fits (or is NULL); None where all do."""
    emptied: int = 0
    """Empty texts that became NULL because the type has no empty value."""


def prove(values: pa.Array, kind: Kind, data_type: str, rules: Column | None) -> Proven:
    """Show which texts of a column fit a type, and write them as Postgres reads them.

    Args:
        values: The column's texts.
        kind: What the format says of them.
        data_type: The column's type; one that isn't ours is left for Postgres to prove.
        rules: The card's word on the column where it *declares* the type, else None.
    """
    if values.null_count == len(values) or data_type not in TYPES:
        return Proven(values, None)
    if data_type == "jsonb":
        return _as_json(values, kind)
    if kind is Kind.JSON:
        return _json_as(values, data_type, rules)
    if data_type == "text":
        return Proven(values, None)
    values, emptied = _empty_to_null(values)
    if rules is not None:
        values, good = convert(values, kind, data_type, rules)
    else:
        good = _fits_as_found(values, kind, data_type)
    return Proven(values, good, emptied)


def _empty_to_null(values: pa.Array) -> tuple[pa.Array, int]:
    empty = pc.equal(values, "")
    count = pc.sum(empty).as_py() or 0
    return (pc.if_else(empty, None, values), count) if count else (values, 0)


def _fits_as_found(values: pa.Array, kind: Kind, data_type: str) -> pa.Array | None:
    """Prove an inferred type: nothing may be lost, neither digits nor the source's word on what it is."""
    if kind is Kind.UNTYPED:
        return is_number(values) if data_type == "double precision" else fits(values, data_type)
    if kind is Kind.STRING:
        return fits(values, data_type) if data_type in _OF_STRINGS else values.is_null()
    if kind in _NUMBERS:
        if data_type == "numeric":
            return is_number(values)
        if data_type == "bigint":
            return fits(values, data_type)
        if data_type == "double precision":
            if kind is Kind.DOUBLE:
                return None
            # Whole numbers up to 15 digits are the same in binary; others may not be.
            exact = pc.and_(pc.match_substring_regex(values, r"^-?\d+$"), pc.less_equal(pc.binary_length(values), 15))
            exact = exact.fill_null(True)
            return None if all_true(exact) else exact
        return values.is_null()
    if str(kind) == data_type:
        return fits(values, data_type)
    return values.is_null()


# -- JSON


def _as_json(values: pa.Array, kind: Kind) -> Proven:
    if kind in (Kind.DECIMAL, Kind.DOUBLE):
        return Proven(_finite_json(values), None)
    if kind in _RAW_JSON:
        return Proven(values, None)
    if kind is Kind.UNTYPED:
        values, emptied = _empty_to_null(values)
        flags = [text is None or is_json(text) for text in values.to_pylist()]
        return Proven(values, None if all(flags) else pa.array(flags, pa.bool_()), emptied)
    return Proven(encode_texts(values), None)


def _finite_json(values: pa.Array) -> pa.Array:
    """Write NaN and infinities, which JSON doesn't have, as its texts; numbers stay."""
    finite = pc.match_substring_regex(values, r"\d").fill_null(True)
    return values if all_true(finite) else pc.if_else(finite, values, encode_texts(values))


def is_json(text: str) -> bool:
    """Tell whether a text is one JSON document."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    return True


def encode_texts(values: pa.Array) -> pa.Array:
    """Write texts as JSON strings."""
    if pc.any(pc.match_substring_regex(values, _SPECIAL)).as_py():
        encode = msgspec.json.encode
        return pa.array([None if text is None else encode(text).decode() for text in values.to_pylist()], pa.string())
    return pc.binary_join_element_wise('"', values, '"', "")


def _json_as(values: pa.Array, data_type: str, rules: Column | None) -> Proven:
    """Put JSON documents into a column of another type: its strings become plain texts again.

    A declared text takes documents as they are written; any other type takes scalars that fit it.
    """
    texts = values.to_pylist()
    strings = pc.starts_with(values, '"').fill_null(False)
    plain = pa.array(
        [
            msgspec.json.decode(text) if string else text
            for text, string in zip(texts, strings.to_pylist(), strict=True)
        ],
        pa.string(),
    )
    if data_type == "text":
        if rules is not None:
            return Proven(plain, None)
        good = pc.or_(strings, values.is_null())
        return Proven(plain, None if all_true(good) else good)
    inner = prove(plain, Kind.STRING if rules is None else Kind.UNTYPED, data_type, rules)
    scalar = pc.invert(pc.match_substring_regex(values, r"^[\[{]").fill_null(False))
    good = scalar if inner.good is None else pc.and_(scalar, inner.good)
    return Proven(inner.values, None if all_true(good) else good, inner.emptied)


# -- words that mean NULL


def without_words(values: pa.Array, kind: Kind, words: list[str]) -> pa.Array:
    """Turn the words that mean NULL into it."""
    if not words or kind in (Kind.JSON, Kind.NULL):
        return values
    known = pc.is_in(values, pa.array(words, pa.string()))
    return pc.if_else(known, None, values) if pc.any(known).as_py() else values


def join_kind(left: Kind, right: Kind) -> Kind | None:
    """Give the kind that two runs of one column have together; None where they must stay apart."""
    if left is right or right is Kind.NULL:
        return left
    if left is Kind.NULL:
        return right
    if {left, right} == {Kind.INTEGER, Kind.DECIMAL}:
        return Kind.DECIMAL
    if Kind.JSON in (left, right) and {left, right} <= {*_RAW_JSON, Kind.STRING}:
        return Kind.JSON
    return None


def in_kind(values: pa.Array, kind: Kind, wanted: Kind) -> pa.Array:
    """Write texts of one kind as another one that ``join_kind`` gave."""
    if wanted is Kind.JSON and kind is Kind.STRING:
        return encode_texts(values)
    return _finite_json(values) if wanted is Kind.JSON and kind is Kind.DECIMAL else values


__all__ = ["UNKNOWN", "Proven", "encode_texts", "in_kind", "is_json", "join_kind", "prove", "without_words"]
