"""Workbooks (xlsx, xlsb, xls, ods) to chunks: one sheet, its first used row the header unless the card says otherwise.

Workbooks can't be read in a stream, so large ones are refused. Their numbers are binary floating point: whole ones
become whole numbers, the others the shortest text that gives them back. Text cells stay text: ``007`` keeps its zeros.
"""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from dagster_project.ingest.chunk import Chunk, Column, Kind
from dagster_project.ingest.errors import DamagedObjectError, DataRefusedError
from dagster_project.ingest.parse.layers import spool
from dagster_project.ingest.parse.records import scalar_text
from dagster_project.ingest.parse.shape import distinct_names
from dagster_project.ingest.parse.text import refuse_rows, string_array, text_size

if TYPE_CHECKING:
    from dagster_project.ingest.cards.file import FileStream

_ROWS = 16_384
_MAX_EXACT = 2**53
_MAGIC = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How workbooks begin."""


def read_workbook(
    stream: IO[bytes], card: FileStream, name: str, first_ordinal: int = 1, *, limit: int
) -> Iterator[Chunk]:
    """Read one sheet of a workbook.

    Args:
        stream: The bytes.
        card: The stream, for ``sheet`` and, of ``csv``, ``header``, ``names`` and ``skip_lines``.
        name: What errors call the file.
        first_ordinal: Number of the first row.
        limit: Largest size, in bytes, unpacked.

    Raises:
        DamagedObjectError: Too large, damaged or encrypted.
        DataRefusedError: Not a workbook, or without the sheet.
    """
    with spool(stream) as file:
        rows = iter(_rows(file, card, name, limit))
        for _ in range(card.csv.skip_lines):
            next(rows, None)
        first = next((row for row in rows if any(value not in ("", None) for value in row)), None)
        if first is None:
            return
        stated = card.csv.names
        if card.csv.header:
            names = list(stated) or distinct_names([_text(value) or "" for value in first])
            pending: list[list[Any]] = []
        else:
            names = list(stated) or [f"column_{number}" for number in range(1, len(first) + 1)]
            pending = [first]
        if len(names) != len(first):
            raise DataRefusedError(
                f"{name}: the card gives {len(names)} `csv.names`, the sheet has {len(first)} columns"
            )
        ordinal = first_ordinal
        for row in rows:
            if any(value not in ("", None) for value in row):  # rows that were only formatted are empty
                pending.append(row)
            if len(pending) >= _ROWS:
                yield _chunk(names, pending, ordinal, card)
                ordinal += len(pending)
                pending = []
        if pending or ordinal == first_ordinal:
            yield _chunk(names, pending, ordinal, card)


def _rows(file: IO[bytes], card: FileStream, name: str, limit: int) -> Iterator[list[Any]]:
    """Give the rows of the sheet, after checking that it may be read."""
    import python_calamine as calamine

    size = file.seek(0, 2)
    file.seek(0)
    if zipfile.is_zipfile(file):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            size = max(size, sum(info.file_size for info in archive.infolist()))
    file.seek(0)
    if size > limit:
        raise DamagedObjectError(
            f"{name}: a workbook of {size / 1024**2:.0f} MiB (unpacked) is more than {limit / 1024**2:.0f} MiB, and "
            "workbooks can't be read in a stream: save it as CSV, or raise `max_document`"
        )
    try:
        workbook = calamine.CalamineWorkbook.from_filelike(file)
    except calamine.PasswordError:
        raise DamagedObjectError(f"{name}: the workbook has a password; save it without") from None
    except (calamine.CalamineError, OSError, ValueError) as error:
        file.seek(0)
        kind = DamagedObjectError if file.read(4) in _MAGIC else DataRefusedError
        raise kind(f"{name}: not a workbook that can be read ({error}); get the file again") from None
    sheets = list(workbook.sheet_names)
    wanted = card.sheet if card.sheet is not None else _first_visible(workbook, calamine)
    if isinstance(wanted, str) and wanted not in sheets:
        raise DataRefusedError(f"{name}: no sheet {wanted!r}; it has {sheets}")
    if isinstance(wanted, int) and not 0 <= wanted < len(sheets):
        raise DataRefusedError(
            f"{name}: `sheet: {wanted}`, but there are {len(sheets)} sheets: {sheets} (numbers from 0)"
        )
    try:
        sheet = workbook.get_sheet_by_name(sheets[wanted] if isinstance(wanted, int) else wanted)
        yield from sheet.iter_rows()
    except calamine.CalamineError as error:
        raise DamagedObjectError(f"{name}: sheet {wanted!r} can't be read: {error}") from None


def _first_visible(workbook: Any, calamine: Any) -> int:
    for index, sheet in enumerate(workbook.sheets_metadata):
        if sheet.visible == calamine.SheetVisibleEnum.Visible and sheet.typ == calamine.SheetTypeEnum.WorkSheet:
            return index
    return 0


def _chunk(names: list[str], rows: list[list[Any]], ordinal: int, card: FileStream) -> Chunk:
    columns: dict[str, Column] = {}
    bad_rows: set[int] = set()
    replaced = 0
    for index, name in enumerate(names):
        values = [row[index] if index < len(row) and row[index] != "" else None for row in rows]
        array, bad = string_array([_text(value) for value in values])
        bad_rows.update(bad)
        replaced += len(bad)
        columns[name] = Column(array, _kind({type(value) for value in values}, values))
    chunk = Chunk(columns, len(rows), ordinal, replaced_nul=replaced, text_bytes=text_size(columns))
    if bad_rows and card.nul_bytes == "quarantine":
        chunk.replaced_nul = 0
        return refuse_rows(chunk, sorted(bad_rows), "nul", "has NUL characters")
    return chunk


def _kind(types: set[type], values: list[Any]) -> Kind:
    types.discard(type(None))
    if not types:
        return Kind.NULL
    if types <= {int, float}:
        whole = all(value is None or float(value).is_integer() for value in values)
        return Kind.INTEGER if whole else Kind.DECIMAL
    if types == {bool}:
        return Kind.BOOLEAN
    if types == {dt.date}:
        return Kind.DATE
    if types <= {dt.datetime, dt.date}:
        return Kind.TIMESTAMP
    # Text cells are what somebody typed: types are found by shape.
    return Kind.UNTYPED


def _text(value: Any) -> str | None:
    """Write a cell as text."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        if value.is_integer() and abs(value) < _MAX_EXACT:
            return str(int(value))
        return format(Decimal(repr(value)), "f")
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return str(value)
    return scalar_text(value)
