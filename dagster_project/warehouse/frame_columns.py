"""What a DataFrame's columns are in Postgres: type, and values in a form that CSV carries.

NumPy and Arrow columns keep their types; a column of Python objects is looked through, and one that mixes
kinds is refused.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.warehouse.frame_types import FrameError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

LEAST_BIGINT, MOST_BIGINT = -(2**63), 2**63 - 1
EXACT_IN_DOUBLE = 2**53

SCALARS: list[tuple[type, str]] = [
    # bool before int, datetime before date: each is a subclass of the other.
    (bool, "boolean"),
    (int, "bigint"),
    (float, "double precision"),
    (decimal.Decimal, "numeric"),
    (str, "text"),
    (dt.datetime, "timestamp"),
    (dt.date, "date"),
    (dt.time, "time"),
    (dt.timedelta, "interval"),
    (uuid.UUID, "uuid"),
    (bytes, "bytea"),
    (dict, "jsonb"),
]


@dataclass(frozen=True, slots=True)
class WriteColumn:
    """One column of a frame."""

    name: str
    type: str
    """Postgres type of its own; ``null`` where every value is missing."""
    values: pa.Array | list[Any]
    """An Arrow array that CSV can carry as it is, or Python objects with None for missing."""

    def array(self, target: str) -> pa.Array:
        """Give the values in the text form that a table column of type ``target`` reads."""
        import pyarrow as pa

        if not isinstance(self.values, list):
            if target == "jsonb":
                return _texts(self.name, self.values.to_pylist(), json.dumps)
            return self.values
        if self.type == "null":
            return pa.nulls(len(self.values), pa.string())
        if target in {"jsonb", "json"}:
            return _texts(self.name, self.values, _json_text)
        if target.startswith(("vector", "halfvec")):
            return _texts(self.name, self.values, lambda value: "[" + ",".join(repr(float(x)) for x in value) + "]")
        if self.type.endswith("[]") or self.type.startswith("vector"):
            return _texts(self.name, self.values, array_literal)
        return _texts(self.name, self.values, WRITERS.get(self.type, str))


def plan_columns(frame: pd.DataFrame) -> list[WriteColumn]:
    """Find each column's type.

    Raises:
        FrameError: Names aren't usable, or a column's values have no type in Postgres.
    """
    names: list[Any] = list(frame.columns)
    if not names:
        raise FrameError("the frame has no columns")
    if any(name is not None for name in frame.index.names):
        raise FrameError(f"the frame's index {list(frame.index.names)} would be lost: reset_index() makes it columns")
    for name in names:
        if not (isinstance(name, str) and name) or len(name.encode()) > 63 or "\0" in name:
            raise FrameError(f"{name!r} is no column name: Postgres takes 1 to 63 bytes of text")
    if len(set(names)) != len(names):
        raise FrameError(f"two columns have one name: {sorted({each for each in names if names.count(each) > 1})}")
    return [_plan(name, frame[name]) for name in names]


def _plan(name: str, series: pd.Series[Any]) -> WriteColumn:
    import pandas as pd
    import pyarrow as pa

    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.dtype.categories.dtype)
    if series.dtype == object:
        return _plan_objects(name, [None if _is_missing(value) else value for value in series])
    try:
        array = pa.array(
            series, from_pandas=not isinstance(series.dtype, (pd.ArrowDtype, pd.Float64Dtype, pd.Float32Dtype))
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        raise FrameError(f"column {name!r}: {error}") from None
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return _plan_arrow(name, array)


def _plan_arrow(name: str, array: pa.Array) -> WriteColumn:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    is_type = pa.types
    if is_type.is_dictionary(kind):
        return _plan_arrow(name, array.dictionary_decode())
    if is_type.is_null(kind):
        return WriteColumn(name, "null", array.to_pylist())
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        if pc.any(pc.match_substring(array, "\0")).as_py():
            raise _nul(name, array.to_pylist())
        return WriteColumn(name, "text", array)
    if is_type.is_timestamp(kind):
        return WriteColumn(name, "timestamp" if kind.tz is None else "timestamptz", _microseconds(name, array))
    if is_type.is_decimal(kind):
        return WriteColumn(name, f"numeric({kind.precision},{kind.scale})", array)
    if is_type.is_date(kind):
        return WriteColumn(name, "date", array.cast(pa.date32()))
    types = {
        pa.bool_(): "boolean",
        pa.int8(): "smallint",
        pa.int16(): "smallint",
        pa.int32(): "integer",
        pa.int64(): "bigint",
        pa.uint8(): "smallint",
        pa.uint16(): "integer",
        pa.uint32(): "bigint",
        pa.uint64(): "numeric",
        pa.float32(): "real",
        pa.float64(): "double precision",
    }
    if kind in types:
        return WriteColumn(name, types[kind], array)
    if kind == pa.float16():
        return WriteColumn(name, "real", array.cast(pa.float32()))
    # Durations, times, binaries, lists, structs: the same rules as for Python objects.
    return _plan_objects(name, array.to_pylist())


def _microseconds(name: str, array: pa.Array) -> pa.Array:
    import pyarrow as pa

    try:
        # Without its zone: the session's is UTC too, and Arrow writes zoned timestamps 15 times more slowly.
        return array.cast(pa.timestamp("us", array.type.tz and "UTC")).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        raise FrameError(
            f"column {name!r} has nanoseconds, and Postgres keeps microseconds: round it, as with .dt.round('us')"
        ) from None


def _is_missing(value: Any) -> bool:
    """Tell None, NA, NaT and NaN from values; lists and arrays are values."""
    import numpy as np
    import pandas as pd

    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, (float, np.floating)) and bool(value != value))
    )


def _plan_objects(name: str, values: list[Any]) -> WriteColumn:
    import numpy as np
    import pandas as pd

    plain = [_plain(value, np, pd) for value in values]
    present = [value for value in plain if value is not None]
    kind = _kind(name, present)
    if kind == "text" and any("\0" in value for value in present):
        raise _nul(name, plain)
    if kind == "double precision":
        plain = [None if value is None else float(value) for value in plain]
    return WriteColumn(name, kind, plain)


def _plain(value: Any, np: Any, pd: Any) -> Any:
    """Turn NumPy's and pandas' scalars into Python's."""
    if isinstance(value, pd.Timestamp):
        if value.nanosecond:
            raise FrameError(f"{value} has nanoseconds, and Postgres keeps microseconds: round it first")
        return value.to_pydatetime()
    if isinstance(value, pd.Timedelta):
        return value.to_pytimedelta()
    return value.item() if isinstance(value, np.generic) else value


def _kind(name: str, present: list[Any]) -> str:
    """Find the Postgres type that takes all values.

    Raises:
        FrameError: There is none.
    """
    if not present:
        return "null"
    import numpy as np

    if all(isinstance(value, np.ndarray) and value.dtype == np.float32 and value.ndim == 1 for value in present):
        lengths = {len(value) for value in present}
        if len(lengths) == 1 and 0 < (length := lengths.pop()) <= 16_000:
            return f"vector({length})"
    if all(isinstance(value, (list, tuple, np.ndarray)) for value in present):
        return _list_kind(name, present)
    kinds = {_scalar_kind(name, value) for value in present}
    if kinds == {"bigint"}:
        return "bigint" if all(LEAST_BIGINT <= value <= MOST_BIGINT for value in present) else "numeric"
    if kinds == {"bigint", "double precision"} and all(
        isinstance(value, float) or abs(value) <= EXACT_IN_DOUBLE for value in present
    ):
        return "double precision"
    if kinds <= {"bigint", "numeric"}:
        return "numeric"
    if kinds == {"timestamp"}:
        aware = {value.tzinfo is not None for value in present}
        if len(aware) == 2:
            raise FrameError(f"column {name!r} mixes times with and without zone")
        return "timestamptz" if aware == {True} else "timestamp"
    if len(kinds) > 1:
        raise FrameError(f"column {name!r} mixes {', '.join(sorted(kinds))}: make it one type, as with .astype(str)")
    return kinds.pop()


def _scalar_kind(name: str, value: Any) -> str:
    if isinstance(value, (bytearray, memoryview)):
        return "bytea"
    for python, postgres in SCALARS:
        if isinstance(value, python):
            return postgres
    raise FrameError(f"column {name!r} holds {type(value).__name__}, which has no type in Postgres")


def _list_kind(name: str, present: list[Any]) -> str:
    """Find the array type, or jsonb where elements are objects or lists of their own."""
    elements = [element for value in present for element in value if element is not None]
    if any(isinstance(element, (dict, list, tuple)) or getattr(element, "ndim", 0) for element in elements):
        return "jsonb"
    plain = [element.item() if hasattr(element, "item") else element for element in elements]
    try:
        kind = _kind(name, plain)
    except FrameError:
        return "jsonb"
    return "text[]" if kind == "null" else f"{kind}[]"


def array_literal(value: Iterable[Any]) -> str:
    """Write a list as Postgres reads an array: in braces, elements in quotes, NULL without."""

    def element(each: Any) -> str:
        if each is None:
            return "NULL"
        if isinstance(each, (list, tuple)):
            return array_literal(each)
        if hasattr(each, "item"):
            each = each.item()
        if isinstance(each, (bytes, dt.timedelta)):
            each = WRITERS["bytea" if isinstance(each, bytes) else "interval"](each)
        return '"' + str(each).replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join(element(each) for each in value) + "}"


def _json_text(value: Any) -> str:
    def other(each: Any) -> Any:
        if hasattr(each, "tolist"):
            return each.tolist()
        if isinstance(each, (dt.datetime, dt.date, dt.time)):
            return each.isoformat()
        if isinstance(each, (uuid.UUID, decimal.Decimal)):
            return str(each)
        raise TypeError(f"{type(each).__name__} has no form in JSON")

    return json.dumps(value, default=other, ensure_ascii=False, allow_nan=False)


def _interval(value: dt.timedelta) -> str:
    return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"


WRITERS: dict[str, Callable[[Any], str]] = {
    "bytea": lambda value: "\\x" + bytes(value).hex(),
    "interval": _interval,
    "timestamp": lambda value: value.isoformat(),
    "timestamptz": lambda value: value.isoformat(),
    "double precision": repr,
    "jsonb": _json_text,
}


def _texts(name: str, values: list[Any], write: Callable[[Any], str]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array([None if value is None else write(value) for value in values], pa.string())
    except (TypeError, ValueError) as error:
        raise FrameError(f"column {name!r}: {error}") from None


def _nul(name: str, values: list[Any]) -> FrameError:
    row = next(place for place, value in enumerate(values) if isinstance(value, str) and "\0" in value)
    return FrameError(f"column {name!r}, row {row}: text with a NUL character, which Postgres can't keep")
