"""What a card of dropped files may say: where they are, how they are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dagster_project.ingest.cards.base import CardModel, Duration, SourceCard, StreamCard, Text

FileFormat = Literal["auto", "csv", "jsonl", "json", "parquet", "xlsx"]


class CsvDialect(CardModel):
    """How delimited text is written; what isn't stated is found out from the first bytes."""

    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    quote: str | None = Field(default=None, max_length=1)
    """The quote character; an empty text says that there is none."""
    escape: str | None = Field(default=None, min_length=1, max_length=1)
    double_quote: bool = True
    encoding: str | None = None
    header: bool = True
    names: list[str] = Field(default_factory=list)
    """Column names where the file has no header."""
    skip_lines: int = Field(default=0, ge=0)


class FileStream(StreamCard):
    """One kind of record that files carry."""

    files: list[str] = Field(min_length=1)
    """Patterns below ``path``, such as ``ratings/*.csv`` or ``ratings/**/*``."""
    format: FileFormat = "auto"
    """``auto`` goes by the name, below .gz, .zst, .bz2 and .zip."""
    csv: CsvDialect = CsvDialect()
    sheet: str | int | None = None
    """Name or number (from 0) of the sheet of a workbook."""
    records: str | None = None
    """JMESPath of the list of records in a JSON document."""
    member: str | None = None
    """Pattern of the members to read in a zip archive; all that have a known format otherwise."""
    add: dict[str, Literal["file_name", "file_path", "file_modified_at", "row_number"]] = Field(default_factory=dict)
    """Column -> fact of the file, added to each row."""


class FileSourceCard(SourceCard):
    """A source of files in a folder (a bucket later)."""

    path: Text
    """The folder, absolute or below the project."""
    order: Literal["name", "modified"] = "name"
    """In which order new files are read."""
    settle: Duration = 2.0
    """A file younger than this (seconds) may still be written: it waits for the next look."""
    watch: bool = True
    """Whether a sensor loads new files as they arrive."""
    max_decompressed: int = Field(default=64 * 1024**3, gt=0)
    """Largest size of a file after decompression, in bytes."""
    max_ratio: float = Field(default=1000.0, gt=1)
    """Largest ratio of decompressed to compressed size, of an archive as a whole, past 64 MiB: a bomb otherwise."""
    max_document: int = Field(default=256 * 1024**2, gt=0)
    """Largest workbook or single JSON document, in bytes: such can't be read in a stream."""
    streams: list[FileStream] = Field(min_length=1)
