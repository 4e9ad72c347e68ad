r"""Parquet to chunks: streamed by batches, every Arrow type to the text that loses nothing.

Numbers become their shortest exact text, nested values and maps JSON, bytes ``\x`` hex as Postgres writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import ROWS, Chunk, Column, Kind
from dagster_project.ingest.errors import DamagedObjectError, DataRefusedError
from dagster_project.ingest.parse.layers import spool
from dagster_project.ingest.parse.records import NulBytes, as_json_line, number_text
from dagster_project.ingest.parse.shape import distinct_names
from dagster_project.ingest.parse.text import refuse_rows, text_size, without_nul

_TARGET = 1 * 1024 * 1024
"""Bytes of a batch, about."""


def read_parquet(
    stream: IO[bytes], name: str, first_ordinal: int = 1, *, nul_bytes: NulBytes = "replace"
) -> Iterator[Chunk]:
    """Read a Parquet file.

    Raises:
        DamagedObjectError: It is damaged.
        DataRefusedError: It is not Parquet.
    """
    import pyarrow.parquet as pq

    with spool(stream) as file:
        try:
            # Without pre-buffering and with a small buffer a row group of any size is read in pieces.
            parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1024 * 1024)
            rows = _batch_rows(parquet)
            names = distinct_names(list(parquet.schema_arrow.names))
            ordinal = first_ordinal
            given = False
            for batch in parquet.iter_batches(batch_size=rows, use_threads=False):
                yield _chunk(batch, names, ordinal, nul_bytes)
                ordinal += batch.num_rows
                given = True
            if not given:
                yield Chunk({name: Column(pa.array([], pa.string()), Kind.NULL) for name in names}, 0, ordinal)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            file.seek(0)
            kind = DamagedObjectError if file.read(4) == b"PAR1" else DataRefusedError
            raise kind(f"{name}: not a whole Parquet file ({error}); get the file again") from None


def _batch_rows(parquet: Any) -> int:
    meta = parquet.metadata
    size = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
    per_row = max(size // max(meta.num_rows, 1), 8 * meta.num_columns, 1)
    return int(min(max(_TARGET // per_row, 64), ROWS))


def _chunk(batch: pa.RecordBatch, names: list[str], ordinal: int, nul_bytes: NulBytes) -> Chunk:
    columns = {name: as_text(array) for name, array in zip(names, batch.columns, strict=True)}
    arrays, replaced, rows = without_nul({name: column.values for name, column in columns.items()})
    columns = {name: Column(arrays[name], column.kind) for name, column in columns.items()}
    chunk = Chunk(columns, batch.num_rows, ordinal, replaced_nul=replaced, text_bytes=text_size(columns))
    if rows and nul_bytes == "quarantine":
        chunk.replaced_nul = 0
        return refuse_rows(chunk, rows, "nul", "has NUL characters")
    return chunk


def as_text(array: pa.Array) -> Column:
    """Write an Arrow array as texts that lose nothing."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary_decode())
    if isinstance(array, pa.ExtensionArray):
        return as_text(array.storage)
    if pa.types.is_null(kind) or array.null_count == len(array):
        return Column(pa.nulls(len(array), pa.string()), Kind.NULL)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return Column(array.cast(pa.string()), Kind.STRING)
    if pa.types.is_boolean(kind):
        return Column(array.cast(pa.string()), Kind.BOOLEAN)
    if pa.types.is_integer(kind):
        return Column(array.cast(pa.string()), Kind.INTEGER)
    if pa.types.is_decimal(kind):
        return _each(array, Kind.DECIMAL, number_text)
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        # The shortest text that gives the 4-byte number back, not that of the 8-byte number it is widened to.
        import numpy as np

        single = np.float16 if pa.types.is_float16(kind) else np.float32
        return _each(array, Kind.DOUBLE, lambda value: _float_text(str(single(value))))
    if pa.types.is_float64(kind):
        return _each(array, Kind.DOUBLE, number_text)
    return _other(array)


def _other(array: pa.Array) -> Column:
    """Write what is neither text nor number."""
    kind = array.type
    if pa.types.is_date(kind):
        return _in_range(array.cast(pa.date32()).cast(pa.string()), Kind.DATE)
    if pa.types.is_timestamp(kind):
        return _timestamps(array)
    if pa.types.is_time(kind):
        return Column(_without_zeros(array.cast(pa.string())), Kind.STRING)
    if pa.types.is_duration(kind):
        return Column(array.cast(pa.int64()).cast(pa.string()), Kind.INTEGER)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _each(array, Kind.STRING, lambda value: "\\x" + value.hex())
    return _each(array, Kind.JSON, lambda value: as_json_line(_plain(value, kind)))


def _each(array: pa.Array, kind: Kind, write: Any) -> Column:
    return Column(pa.array([None if v is None else write(v) for v in array.to_pylist()], pa.string()), kind)


def _float_text(text: str) -> str:
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, text)


def _timestamps(array: pa.Array) -> Column:
    """Write timestamps as ISO 8601, in UTC where they have a zone; digits below the microsecond stay, as text."""
    zone = array.type.tz
    kind = Kind.TIMESTAMPTZ if zone else Kind.TIMESTAMP
    if array.type.unit == "ns":
        micro = array.cast(pa.timestamp("us", zone), safe=False)
        if not pc.all(pc.equal(micro.cast(pa.timestamp("ns", zone)), array)).as_py():
            kind = Kind.STRING
        else:
            array = micro
    texts = _without_zeros(array.cast(pa.timestamp(array.type.unit)).cast(pa.string()))
    texts = pc.replace_substring(texts, " ", "T", max_replacements=1)
    if zone:
        texts = pc.binary_join_element_wise(texts, pa.scalar("Z"), "")
    return _in_range(texts, kind)


def _in_range(texts: pa.Array, kind: Kind) -> Column:
    """Keep dates outside the years 1 to 9999 as text."""
    plain = pc.match_substring_regex(texts, r"^\d{4}-")
    return Column(texts, kind if pc.all(plain).as_py() else Kind.STRING)


def _without_zeros(texts: pa.Array) -> pa.Array:
    """Leave out a fraction's closing zeros."""
    has_fraction = pc.match_substring(texts, ".")
    trimmed = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    return pc.if_else(has_fraction, trimmed, texts)


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Make a nested value of what JSON has."""
    if value is None or isinstance(value, str | bool | int | float | Decimal):
        return value
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if pa.types.is_map(kind):
        pairs = [(key, _plain(item, kind.item_type)) for key, item in value]
        keys = [key for key, _ in pairs]
        if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
            return dict(pairs)
        return [[_plain(key, kind.key_type), item] for key, item in pairs]
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list):
        return [_plain(item, kind.value_type) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
