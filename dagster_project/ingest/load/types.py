"""Types: the lattice of Postgres types, the shapes that texts have, and what type a chunk's column is by its look.

One table of shapes serves finding a type and proving it. Everything is vectorised over Arrow string arrays; what a
*declared* type accepts beyond the shapes (other date formats, decimal commas, ``007`` as a number) is in ``convert``.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Kind

UNKNOWN: Final = "unknown"
"""A column in which no value was seen yet: text in the table, until a value tells."""

TYPES: Final = (
    "boolean",
    "bigint",
    "numeric",
    "double precision",
    "date",
    "timestamp",
    "timestamptz",
    "text",
    "jsonb",
)

FROM_KIND: Final[dict[Kind, str]] = {
    Kind.INTEGER: "bigint",
    Kind.DECIMAL: "numeric",
    Kind.DOUBLE: "double precision",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "timestamp",
    Kind.TIMESTAMPTZ: "timestamptz",
    Kind.JSON: "jsonb",
    Kind.NULL: UNKNOWN,
}

_DATE: Final = (
    r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    r"|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME: Final = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?"
_ZONE: Final = r"(?:Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"

SHAPES: Final[dict[str, str]] = {
    # Texts that give themselves back: no leading zeros, no plus sign, no minus before zero.
    "bigint": r"^(?:0|-?[1-9]\d{0,18})$",
    "numeric": r"^(?:(?:0|-?[1-9]\d*)(?:\.\d+)?|-0\.\d*[1-9]\d*)$",
    "boolean": r"^(?:true|false)$",
    "date": f"^{_DATE}$",
    "timestamp": f"^{_DATE}[T ]{_TIME}$",
    "timestamptz": f"^{_DATE}[T ]{_TIME} ?{_ZONE}$",
}
"""Type -> RE2 expression of the texts that the type keeps without loss (of timestamps: the moment)."""

MAX_NUMBER: Final = 1000
"""Digits of a number at most; longer ones are text. Postgres would take 131,072, and nobody means it."""

_INT64: Final = (-(2**63), 2**63 - 1)


def join(left: str, right: str) -> str:
    """Give the smallest type that keeps the values of both without loss."""
    if left == right or right == UNKNOWN:
        return left
    if left == UNKNOWN:
        return right
    if "jsonb" in (left, right):
        return "jsonb"
    numbers = {"bigint", "numeric", "double precision"}
    # Postgres' numeric has NaN and Infinity, and every binary number has a decimal text that gives it back.
    return "numeric" if left in numbers and right in numbers else "text"


def fits(values: pa.Array, data_type: str) -> pa.Array | None:
    """Tell which texts have the shape of a type, NULL and the empty text included.

    Returns:
        A mask that is true for texts that fit, or None where all do.
    """
    if data_type in ("text", UNKNOWN):
        return None
    if data_type == "bigint" and _plain_integers(values):
        return None
    mask = pc.or_kleene(pc.match_substring_regex(values, SHAPES[data_type]), pc.equal(values, "")).fill_null(True)
    if data_type == "bigint":
        mask = _within_int64(values, mask)
    elif data_type == "numeric":
        mask = pc.and_(mask, pc.less_equal(pc.binary_length(values), MAX_NUMBER).fill_null(True))
    elif data_type in ("date", "timestamp", "timestamptz"):
        # Postgres has no year 0.
        mask = pc.and_not(mask, pc.starts_with(values, "0000").fill_null(False))
    return None if all_true(mask) else mask


def _keeps(values: pa.Array, data_type: str) -> bool:
    if data_type == "numeric":
        return is_number(values) is None
    return fits(values, data_type) is None


NUMBER: Final = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?$|^(?i:nan|[+-]?inf(?:inity)?)$"
"""Whatever way a number can be written: what columns of numbers take from sources that say it is a number."""


def is_number(values: pa.Array) -> pa.Array | None:
    """Tell which texts are numbers that ``numeric`` takes, however they are written."""
    mask = pc.or_kleene(pc.match_substring_regex(values, NUMBER), pc.equal(values, "")).fill_null(True)
    mask = pc.and_(mask, pc.less_equal(pc.binary_length(values), MAX_NUMBER).fill_null(True))
    return None if all_true(mask) else mask


def all_true(mask: pa.Array) -> bool:
    """Tell whether a mask without nulls is true everywhere (of an empty one: yes)."""
    return len(mask) == 0 or bool(pc.all(mask).as_py())


def _plain_integers(values: pa.Array) -> bool:
    """Prove the common case cheaply: digits only, at most 18, no leading zero. A quarter of the expression's time."""
    if values.null_count == len(values):
        return True
    longest = pc.max(pc.binary_length(values)).as_py()
    if longest > 18 or not pc.all(pc.ascii_is_decimal(values)).as_py():
        return False
    if longest == 1:
        return True
    return not pc.any(pc.and_(pc.starts_with(values, "0"), pc.greater(pc.binary_length(values), 1))).as_py()


def _within_int64(values: pa.Array, mask: pa.Array) -> pa.Array:
    """Take whole numbers of 19 digits that int64 can't hold out of the mask."""
    long = pc.and_(mask, pc.greater_equal(pc.binary_length(values), 19).fill_null(False))
    positions = pc.indices_nonzero(long).to_pylist()
    outside = [at for at in positions if not _INT64[0] <= int(values[at].as_py()) <= _INT64[1]]
    if not outside:
        return mask
    flags = mask.to_pylist()
    for at in outside:
        flags[at] = False
    return pa.array(flags, pa.bool_())


BY_SHAPE: Final = ("bigint", "numeric", "boolean", "date", "timestamp", "timestamptz")


def infer(values: pa.Array, kind: Kind) -> str:
    """Find the type of a column by what the format says and, for text, by its shape.

    Numbers are never made of texts that the source calls strings: JSON's ``"7"`` stays text.
    """
    if kind in FROM_KIND:
        if values.null_count == len(values):
            return UNKNOWN
        found = FROM_KIND[kind]
        if kind is Kind.INTEGER and fits(values, found) is not None:
            found = "numeric"
        if found in SHAPES and found != "bigint" and kind is not Kind.DOUBLE and not _keeps(values, found):
            return "text"  # nanoseconds, years past 9999, numbers of thousands of digits
        return found
    sample = _first_value(values)
    if sample is None:
        return UNKNOWN if values.null_count == len(values) else "text"
    shapes = BY_SHAPE if kind is Kind.UNTYPED else BY_SHAPE[3:]
    for data_type in shapes:
        # One value that doesn't fit is enough: most types fall here, before the whole column is looked at.
        if fits(sample, data_type) is None and fits(values, data_type) is None:
            return data_type
    return "text"


def _first_value(values: pa.Array) -> pa.Array | None:
    """Give the first value that is neither NULL nor empty, as an array of one."""
    found = pc.index(pc.greater(pc.binary_length(values), 0), True).as_py()
    return None if found < 0 else values.slice(found, 1)
