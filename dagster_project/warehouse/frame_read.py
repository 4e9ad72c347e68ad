"""From a query to a DataFrame: COPY as CSV, parsed by Arrow with the types that the query's columns have."""

from __future__ import annotations

import decimal
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.warehouse.frame_types import PLAIN_TABLE, FrameError, TableName

if TYPE_CHECKING:
    import pandas as pd
    import psycopg
    import pyarrow as pa

LEAST_BLOCK = 4 << 20


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """One column of the result: how Arrow parses it, and what becomes of each value where Arrow has no type."""

    name: str
    arrow: pa.DataType
    convert: Callable[[bytes], Any] | None = None
    free_text: bool = False
    """It may hold line ends, which costs the parser its shortcut."""


def read_frame(
    connection: psycopg.Connection[Any],
    sql_or_table: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
) -> pd.DataFrame:
    """Read a table or the result of one SELECT; see ``Warehouse.read_frame``.

    Raises:
        FrameError: A value can't be told in pandas, or two columns have one name.
    """
    import pyarrow as pa

    text = sql_or_table.strip().rstrip(";")
    query = f"select * from {TableName.parse(text).sql}" if PLAIN_TABLE.match(text) else text
    columns = describe(connection, query, parameters)
    data = bytearray()
    longest = 0
    with connection.cursor() as cursor, cursor.copy(f"copy (\n{query}\n) to stdout (format csv)", parameters) as copy:
        for piece in copy:
            # A row each. Kept as a list, a million of them would cost more in the garbage collector than here.
            data += piece
            longest = max(longest, len(piece))
    if not columns:
        raise FrameError("the query has no columns")
    if not data:
        table = pa.table({each.name: pa.array([], each.arrow) for each in columns})
    else:
        table = _parse(data, columns, longest)
    del data
    return _to_pandas(table, columns)


def describe(
    connection: psycopg.Connection[Any], query: str, parameters: Mapping[str, Any] | Sequence[Any] | None
) -> list[ReadColumn]:
    """Ask Postgres for names and types of a query's columns, without running it.

    Raises:
        FrameError: Two columns have one name.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"select * from (\n{query}\n) as q limit 0", parameters)
        described = cursor.description or []
    names = [each.name for each in described]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise FrameError(f"the query has more than one column {', '.join(doubled)}: name them apart with AS")
    known = connection.adapters.types
    unknown = [each.type_code for each in described if known.get(each.type_code) is None]
    others: dict[int, str] = {}
    if unknown:
        rows = connection.execute("select oid::bigint, typname from pg_type where oid = any(%s)", (unknown,))
        others = dict(rows)
    result = []
    for each in described:
        info = known.get(each.type_code)
        type_name = info.name if info is not None else others.get(each.type_code, "")
        is_array = info is not None and info.array_oid == each.type_code
        result.append(_read_column(connection, each, "array" if is_array else type_name))
    return result


def _read_column(connection: psycopg.Connection[Any], column: psycopg.Column, type_name: str) -> ReadColumn:
    import pyarrow as pa

    name = column.name
    plain: dict[str, pa.DataType] = {
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "oid": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "bool": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
    }
    if type_name in plain:
        return ReadColumn(name, plain[type_name])
    if type_name == "numeric":
        precision, scale = column.precision, column.scale
        if precision is not None and scale is not None and 0 <= scale <= precision <= 76:
            return ReadColumn(
                name, pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
            )
        return ReadColumn(name, pa.binary(), lambda value: decimal.Decimal(value.decode()))
    if type_name in {"json", "jsonb"}:
        return ReadColumn(name, pa.binary(), json.loads, free_text=True)
    if type_name == "bytea":
        return ReadColumn(name, pa.binary(), lambda value: bytes.fromhex(value[2:].decode()))
    if type_name in {"vector", "halfvec"}:
        return ReadColumn(name, pa.binary(), _vector)
    if type_name in {"array", "uuid", "time", "timetz", "interval"}:
        from psycopg.adapt import Transformer
        from psycopg.pq import Format

        loader = Transformer(connection).get_loader(column.type_code, Format.TEXT)
        return ReadColumn(name, pa.binary(), loader.load, free_text=type_name == "array")
    return ReadColumn(name, pa.string(), free_text=True)


def _vector(value: bytes) -> Any:
    import numpy as np

    return np.array(json.loads(value), dtype=np.float32)


def _parse(data: bytearray, columns: list[ReadColumn], longest: int) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    try:
        return csv.read_csv(
            pa.BufferReader(pa.py_buffer(data)),
            read_options=csv.ReadOptions(
                column_names=[each.name for each in columns], block_size=max(LEAST_BLOCK, 2 * longest)
            ),
            parse_options=csv.ParseOptions(
                newlines_in_values=any(each.free_text for each in columns), ignore_empty_lines=False
            ),
            convert_options=csv.ConvertOptions(
                column_types={each.name: each.arrow for each in columns},
                # COPY writes NULL as nothing and an empty text as "".
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
    except pa.ArrowInvalid as error:
        raise FrameError(
            f"a value can't be told in pandas ({error}): dates and timestamps must be finite and in the years 1 to "
            "9999, numeric(p, s) not NaN; cast that column to text in the query"
        ) from None


def _to_pandas(table: pa.Table, columns: list[ReadColumn]) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    series: dict[str, Any] = {}
    for column, values in zip(columns, table.columns, strict=True):
        if column.convert is not None:
            convert = column.convert
            objects = np.empty(len(values), dtype=object)
            # One by one: given a list of equal-length arrays, NumPy would make a matrix of them.
            for place, value in enumerate(values.to_pylist()):
                objects[place] = None if value is None else convert(value)
            series[column.name] = pd.Series(objects, dtype=object)
        else:
            series[column.name] = values.to_pandas(types_mapper=_pandas_type)
    return pd.DataFrame(series, copy=False)


def _pandas_type(arrow: pa.DataType) -> Any:
    """Choose the pandas type that keeps NULL and every value; None leaves pandas' own choice."""
    import pandas as pd
    import pyarrow as pa

    nullable = {
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype("pyarrow", na_value=pd.NA),
    }
    if arrow in nullable:
        return nullable[arrow]
    if pa.types.is_floating(arrow) or pa.types.is_date(arrow) or pa.types.is_decimal(arrow):
        # Arrow's floats tell NaN from NULL, pandas' own no longer do.
        return pd.ArrowDtype(arrow)
    return None
