"""Delimited text through Arrow's parser: fast, all columns text, for regions whose quoting is known to be well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv

if TYPE_CHECKING:
    from dagster_project.ingest.parse.dialect import Dialect

BLOCK = 1024 * 1024
"""Bytes that one of Arrow's threads takes at a time."""


def parse_region(
    region: bytes, columns: int, dialect: Dialect, *, quoted: bool, threads: bool
) -> tuple[pa.Table, list[tuple[int | None, str]]]:
    """Parse whole records in UTF-8, every column as text; unquoted empty fields are null, quoted ones are not.

    Args:
        region: The records, without a header.
        columns: How many columns a record has.
        dialect: How they are written.
        quoted: Whether there are quotes.
        threads: Whether to use several; then the rows left out carry no number.

    Returns:
        The table, with columns named by number, and the rows that have another number of fields: number from 1, text.
    """
    invalid: list[tuple[int | None, str]] = []

    def keep(row: pa_csv.InvalidRow) -> str:
        invalid.append((row.number, row.text))
        return "skip"

    names = [str(number) for number in range(columns)]
    block = max(len(region), 1) if not threads else BLOCK
    while True:
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(region),
                read_options=pa_csv.ReadOptions(
                    use_threads=threads, block_size=block, column_names=names, encoding="utf8"
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=dialect.delimiter,
                    quote_char=dialect.quote or False,
                    double_quote=dialect.double_quote and bool(dialect.quote),
                    escape_char=dialect.escape or False,
                    newlines_in_values=quoted or bool(dialect.escape),
                    invalid_row_handler=keep,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
            return table, invalid
        except pa.ArrowInvalid as error:
            if block <= len(region) and "straddl" in str(error):
                invalid.clear()
                block = len(region) + 1
                continue
            if "Empty CSV file" in str(error):
                return pa.table({name: pa.array([], pa.string()) for name in names}), invalid
            raise
