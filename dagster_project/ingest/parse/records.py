"""Records (dicts, as JSON decoders give them) to chunks, column-wise: one look at a column's types, one conversion.

Numbers stay exact: whole numbers of any size, ``Decimal`` for the rest. Objects and lists become JSON text. A column
whose records disagree becomes the kind that holds them all. Decoding itself is in ``json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, Literal

import msgspec
import pyarrow as pa

from dagster_project.ingest.chunk import Chunk, Column, Kind, Refused
from dagster_project.ingest.parse.text import cut, refuse_rows, replaced, string_array, text_size, unkeepable

RECORDS = 16_384
"""Records of a chunk at most: dicts cost far more memory than their columns."""
_MAX_PLAIN_EXPONENT = 1000
"""Exponents past this stay in scientific notation: a short text must not become a long one."""

_DEEP = 100
"""Levels up to which nesting is never a trouble."""

NulBytes = Literal["replace", "quarantine"]
_encoder = msgspec.json.Encoder(decimal_format="number")
_NONE = type(None)


def records_to_chunk(records: Sequence[Any], first_ordinal: int, *, nul_bytes: NulBytes = "replace") -> Chunk:
    """Turn records into one chunk.

    Args:
        records: Dicts of None, bool, int, Decimal, float (only NaN and infinities), str, dict and list. Anything that
            isn't a dict is refused as ``not_an_object``, one without fields as ``empty_row``.
        first_ordinal: Row number of the first record inside its landed object.
        nul_bytes: What happens to texts with NUL characters or lone surrogates.
    """
    ordinals: list[int] | None = None
    refused: list[Refused] = []
    if set(map(type, records)) - {dict} or not all(records):
        records, ordinals, refused = _objects_only(records, first_ordinal)
    try:
        return _chunk(records, first_ordinal, ordinals, refused, nul_bytes)
    except RecursionError:
        records, ordinals, refused = _shallow_only(records, first_ordinal, ordinals, refused)
        return _chunk(records, first_ordinal, ordinals, refused, nul_bytes)


def _chunk(
    records: Sequence[Any],
    first_ordinal: int,
    ordinals: list[int] | None,
    refused: list[Refused],
    nul_bytes: NulBytes,
) -> Chunk:
    names: dict[Any, None] = dict.fromkeys(chain.from_iterable(records))
    bad_rows: set[int] = set()
    replaced_count = 0
    columns: dict[str, Column] = {}
    for name in names:
        column, bad = _column([record.get(name) for record in records])
        replaced_count += len(bad)
        bad_rows.update(bad)
        key = replaced(name) if unkeepable(name) else name
        while key in columns:  # only a name made fit can meet another one
            key += "_"
        columns[key] = column
    chunk = Chunk(
        columns=columns,
        rows=len(records),
        first_ordinal=first_ordinal,
        ordinals=None if ordinals is None else pa.array(ordinals, pa.int64()),
        refused=refused,
        replaced_nul=replaced_count,
        text_bytes=text_size(columns),
    )
    if bad_rows and nul_bytes == "quarantine":
        chunk.replaced_nul = 0
        return refuse_rows(chunk, sorted(bad_rows), "nul", "has NUL characters or lone surrogates")
    return chunk


def chunks_of_records(
    records: Sequence[Any], first_ordinal: int, *, nul_bytes: NulBytes = "replace", rows: int = RECORDS
) -> Iterator[Chunk]:
    """Turn many records into chunks of at most ``rows`` rows."""
    for start in range(0, len(records), rows):
        yield records_to_chunk(records[start : start + rows], first_ordinal + start, nul_bytes=nul_bytes)


def as_json_line(value: Any) -> str:
    """Write a value as JSON on one line, whatever is in it."""
    try:
        return _encoder.encode(value).decode()
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError):
        try:
            return json.dumps(_encodable(value), ensure_ascii=False, default=str)
        except RecursionError:
            return '"nested too deeply to be shown"'


def _objects_only(records: Sequence[Any], first_ordinal: int) -> tuple[list[dict[str, Any]], list[int], list[Refused]]:
    """Part the objects that have fields from what isn't one."""
    kept, ordinals, refused = [], [], []
    for ordinal, record in enumerate(records, first_ordinal):
        if type(record) is dict and record:
            kept.append(record)
            ordinals.append(ordinal)
        elif type(record) is dict:
            refused.append(Refused(ordinal, "empty_row", "the record has no fields", "{}"))
        else:
            message = f"a record should be a JSON object, this is {_json_type(record)}"
            refused.append(Refused(ordinal, "not_an_object", message, cut(as_json_line(record))))
    return kept, ordinals, refused


def _shallow_only(
    records: Sequence[Any], first_ordinal: int, ordinals: list[int] | None, refused: list[Refused]
) -> tuple[list[Any], list[int], list[Refused]]:
    """Part the records that can be written from those that are nested too deeply for it."""
    kept, kept_ordinals, refused = [], [], list(refused)
    for record, ordinal in zip(records, ordinals or range(first_ordinal, first_ordinal + len(records)), strict=True):
        try:
            if _is_deep(record):
                _chunk([record], 1, None, [], "replace")
            kept.append(record)
            kept_ordinals.append(ordinal)
        except RecursionError:
            refused.append(Refused(ordinal, "too_deep", "nested too deeply", cut(as_json_line(record))))
    return kept, kept_ordinals, refused


def _is_deep(record: Any) -> bool:
    """Tell whether a record may be nested too deeply, without recursion."""
    level = [record]
    for _ in range(_DEEP):
        level = [
            item
            for value in level
            if type(value) in (dict, list)
            for item in (value.values() if type(value) is dict else value)
        ]
        if not level:
            return False
    return True


def _json_type(value: Any) -> str:
    names = {_NONE: "null", bool: "a boolean", str: "a text", list: "a list"}
    return names.get(type(value), "a number")


def _column(values: list[Any]) -> tuple[Column, list[int]]:
    """Make a column of Python values; also give the indexes of values in which characters were replaced."""
    types = set(map(type, values))
    types.discard(_NONE)
    if not types:
        return Column(pa.nulls(len(values), pa.string()), Kind.NULL), []
    if len(types) == 1:
        return _uniform(values, next(iter(types)))
    if types & {dict, list}:
        return _json(values)
    if types <= {int, Decimal, float}:
        # Floats are NaN and infinities only, which numeric has too: as binary numbers the others would lose digits.
        texts = [None if v is None else number_text(v) for v in values]
        return Column(pa.array(texts, pa.string()), Kind.DECIMAL), []
    array, bad = string_array([None if v is None else scalar_text(v) for v in values])
    return Column(array, Kind.STRING), bad


def _uniform(values: list[Any], kind: type) -> tuple[Column, list[int]]:
    """Make a column of values of one type (and None)."""
    if kind is str:
        array, bad = string_array(values)
        return Column(array, Kind.STRING), bad
    if kind is int:
        try:
            return Column(pa.array(values, pa.int64()).cast(pa.string()), Kind.INTEGER), []
        except (OverflowError, pa.ArrowInvalid):
            texts = [None if v is None else number_text(v) for v in values]
            return Column(pa.array(texts, pa.string()), Kind.INTEGER), []
    if kind is bool:
        return Column(pa.array(values, pa.bool_()).cast(pa.string()), Kind.BOOLEAN), []
    if kind is Decimal:
        texts = [None if v is None else str(v) for v in values]
        joined = "".join(text for text in texts if text is not None)
        if "E" in joined or "N" in joined or "I" in joined:
            texts = [None if v is None else number_text(v) for v in values]
        return Column(pa.array(texts, pa.string()), Kind.DECIMAL), []
    if kind is float:
        return Column(pa.array([None if v is None else number_text(v) for v in values], pa.string()), Kind.DECIMAL), []
    return _json(values)


def _json(values: list[Any]) -> tuple[Column, list[int]]:
    """Encode every value as JSON; replace what Postgres can't keep inside."""
    encode = _encoder.encode
    bad: list[int] = []
    texts: list[str | None] = []
    for index, value in enumerate(values):
        if value is None:
            texts.append(None)
            continue
        try:
            text = encode(value).decode()
            # msgspec writes NaN as null, which would be another value.
            if "\\u0000" not in text and ("null" not in text or not _has_float(value)):
                texts.append(text)
                continue
        except (UnicodeEncodeError, OverflowError, ValueError):
            pass
        clean, changed = _clean(value)
        if changed:
            bad.append(index)
        texts.append(encode(clean).decode())
    return Column(pa.array(texts, pa.string()), Kind.JSON), bad


def _has_float(value: Any) -> bool:
    if type(value) is dict:
        return any(map(_has_float, value.values()))
    if type(value) is list:
        return any(map(_has_float, value))
    return type(value) is float


def _clean(value: Any) -> tuple[Any, bool]:
    """Replace unkeepable characters and write NaN and infinities, which JSON doesn't have, as texts."""
    if type(value) is str:
        return (replaced(value), True) if unkeepable(value) else (value, False)
    if type(value) is float:
        return (number_text(value) if not math.isfinite(value) else value), False
    if type(value) is list:
        pairs = [_clean(item) for item in value]
        return [item for item, _ in pairs], any(changed for _, changed in pairs)
    if type(value) is dict:
        result, any_changed = {}, False
        for key, item in value.items():
            clean_key, key_changed = _clean(key)
            result[clean_key], item_changed = _clean(item)
            any_changed = any_changed or key_changed or item_changed
        return result, any_changed
    return value, False


def _encodable(value: Any) -> Any:
    clean = _clean(value)[0]
    if isinstance(clean, dict):
        return {str(key): _encodable(item) for key, item in clean.items()}
    if isinstance(clean, list | tuple):
        return [_encodable(item) for item in clean]
    return clean


def number_text(value: Decimal | float) -> str:
    """Write a number exactly: digits without exponent where that isn't absurdly long."""
    if type(value) is int:
        try:
            return str(value)
        except ValueError:  # past Python's limit of digits
            return format(Decimal(value), "f")
    if type(value) is float:
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return repr(value)
    assert isinstance(value, Decimal)
    if not value.is_finite():
        return "NaN" if value.is_nan() else ("Infinity" if value > 0 else "-Infinity")
    text = str(value)
    if "E" not in text or abs(value.adjusted()) > _MAX_PLAIN_EXPONENT:
        return text
    return format(value, "f")


def scalar_text(value: Any) -> str:
    """Write a scalar as the canonical text that a column of texts gets."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    return number_text(value)
