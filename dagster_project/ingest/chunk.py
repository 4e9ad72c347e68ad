"""Chunks: the one shape in which every parser hands rows to the loader.

A chunk is column-wise, and every value is text (an Arrow string array) together with the *kind* of text it is. The
loader proves that the texts of a column fit its Postgres type, sends the fitting rows through COPY and the others to
the quarantine. So CSV, JSON, HTML, spreadsheets and Parquet share one way of typing, one way of refusing and one way
of writing, all of it vectorised, and no value passes through a lossy number type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 131_072
"""Rows of a chunk at most: narrow ones are many, and every chunk costs the loader a fixed amount."""
BYTES = 8 * 1024 * 1024
"""Text of a chunk, about, at most."""


class Kind(StrEnum):
    """What the texts of a column are, as far as the format says."""

    UNTYPED = "untyped"
    """CSV, HTML, spreadsheets' text cells: anything; types are found by shape."""
    STRING = "string"
    """The source says text (JSON strings): only dates and timestamps are found by shape."""
    INTEGER = "integer"
    """Canonical whole numbers of any size."""
    DECIMAL = "decimal"
    """Exact decimal numbers; may mix with whole numbers, NaN and infinities."""
    DOUBLE = "double"
    """Binary floating point, shortest text that gives it back; may be NaN or Infinity."""
    BOOLEAN = "boolean"
    """``true`` or ``false``."""
    DATE = "date"
    """``YYYY-MM-DD``."""
    TIMESTAMP = "timestamp"
    """ISO 8601 without zone."""
    TIMESTAMPTZ = "timestamptz"
    """ISO 8601 with zone."""
    JSON = "json"
    """JSON documents (objects, lists, or a mixture with scalars, all of it encoded as JSON)."""
    NULL = "null"
    """No value at all in this chunk."""


@dataclass(slots=True)
class Column:
    """One column of a chunk: ``values`` has the chunk's length, null where there is no value."""

    values: pa.Array
    """``pa.string()`` (UTF-8), length = rows of the chunk."""
    kind: Kind


@dataclass(slots=True)
class Refused:
    """A row that the parser could not make a row of."""

    ordinal: int | None
    """Row number inside the landed object, from 1, where it is known."""
    code: str
    """``ragged_row``, ``undecodable``, ``not_json``, ``not_an_object``, ``row_too_long``, ..."""
    message: str
    line: str | None = None
    """The text as read, cut to 64 KiB."""


@dataclass(slots=True)
class Chunk:
    """Rows of one landed object, column-wise."""

    columns: dict[str, Column]
    """Source field name -> column."""
    rows: int
    first_ordinal: int
    """Row number of the first row inside the landed object, from 1."""
    ordinals: pa.Array | None = None
    """``pa.int64()`` row numbers, only where rows before or between were refused so that counting on is wrong."""
    refused: list[Refused] = field(default_factory=list)
    replaced_nul: int = 0
    """Values in which NUL characters or lone surrogates were replaced by U+FFFD while parsing."""
    left_out: int = 0
    """Rows that the card's recipe left out."""
    text_bytes: int = 0
