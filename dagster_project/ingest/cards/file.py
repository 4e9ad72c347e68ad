"""What a card of dropped files may say: where they are, how they are written."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dagster_project.ingest.cards.base import CardModel, Duration, SourceCard, StreamCard, Text
from dagster_project.ingest.cards.output import Output, loop
from dagster_project.ingest.cards.recipe import Recipe
from dagster_project.ingest.errors import IngestError

_SPECIAL = re.compile(r"[*?\[]")
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

    files: list[str] = Field(default_factory=list)
    """Patterns below ``path``, such as ``ratings/*.csv`` or ``ratings/**/*``."""
    prefix: str | None = Field(default=None, min_length=1)
    """Instead of ``files``: what names below ``path`` begin with, folders included, such as ``ratings/``."""
    suffix: list[str] = Field(default_factory=list)
    """What names end with, such as ``.csv.gz``; with ``prefix`` or by itself."""
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
    recipe: Recipe | None = None
    """How rows are cleaned before their types are found, so that the raw table holds clean ones."""

    @field_validator("suffix", mode="before")
    @classmethod
    def _one_or_many_suffixes(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("prefix")
    @classmethod
    def _prefix_can_match(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("/"):
            raise ValueError("a name below `path` never begins with a slash, so that nothing would match: leave it out")
        return value

    @model_validator(mode="after")
    def _files_are_named(self) -> Self:
        if self.files and (self.prefix is not None or self.suffix):
            raise ValueError(f"stream {self.name!r}: `files` or `prefix` and `suffix`, not both")
        if not self.files and self.prefix is None and not self.suffix:
            raise ValueError(f"stream {self.name!r}: which files? Say `files`, or `prefix` and `suffix`")
        return self

    @property
    def patterns(self) -> list[str]:
        """What the stream reads, as patterns."""
        if self.files:
            return self.files
        return [f"{_literal(self.prefix or '')}**{_literal(suffix)}" for suffix in self.suffix or [""]]


class FileSourceCard(SourceCard):
    """A source of files in a folder, or of objects in a bucket."""

    path: Text
    """The folder, absolute or below the project; or ``s3://bucket/prefix``."""
    order: Literal["name", "modified"] = "name"
    """In which order new files are read."""
    settle: Duration = 2.0
    """A file younger than this (seconds) may still be written: it waits for the next look. An object of a bucket is
    there as a whole or not at all, and never waits."""
    watch: bool = True
    """Whether a sensor loads new files as they arrive."""
    reconcile: Duration = Field(default=900.0, ge=10)
    """How often a bucket is listed for what notifications lost; without a queue, for whatever is new."""
    parallel: int = Field(default=4, ge=1, le=32)
    """Most objects of a bucket that are landed at once: as many as wait, up to this."""
    tasks: int = Field(default=1, ge=1, le=16)
    """Most steps that land a bucket's backlog side by side, each its share of the keys; one load takes what all of them
    landed. More than one only where the order of files doesn't matter: streams that append, or merge by `newest_by`."""
    per_task: int = Field(default=500, ge=1)
    """Objects that are worth a step of their own: a backlog of 1,200 makes three, if ``tasks`` allows that."""
    copies: Literal["unversioned", "all"] = "unversioned"
    """Which objects of a bucket are copied into landing, where that is a bucket too: those that may be overwritten, or
    all. A versioned bucket's objects never change, so that landing only refers to them: its lifecycle has to keep old
    versions for as long as they may be replayed."""
    max_decompressed: int = Field(default=64 * 1024**3, gt=0)
    """Largest size of a file after decompression, in bytes."""
    max_ratio: float = Field(default=1000.0, gt=1)
    """Largest ratio of decompressed to compressed size, of an archive as a whole, past 64 MiB: a bomb otherwise."""
    max_document: int = Field(default=256 * 1024**2, gt=0)
    """Largest workbook or single JSON document, in bytes: such can't be read in a stream."""
    output: Output | None = None
    """Where rows go as Parquet after each load."""
    streams: list[FileStream] = Field(min_length=1)

    @model_validator(mode="after")
    def _tasks_need_no_order(self) -> Self:
        for stream in self.streams if self.tasks > 1 else ():
            merges = stream.write == "merge" and bool(stream.newest_by) and stream.missing == "keep"
            if stream.write != "append" and not merges:
                raise ValueError(
                    f"stream {stream.name!r}: `tasks: {self.tasks}` lands files side by side, in no order, which "
                    f"`write: {stream.write}` needs: leave `tasks` out, or merge with `newest_by`"
                )
        return self

    @model_validator(mode="after")
    def _output_is_no_input(self) -> Self:
        # Where settings say the places, this is looked at before anything is written.
        if self.output is not None and isinstance(self.path, str) and isinstance(self.output.path, str):
            tables = [self.table(stream.name) for stream in self.streams]
            try:
                said = loop(self.path, self.output.path, tables)
            except IngestError as error:
                raise ValueError(str(error)) from None
            if said is not None:
                raise ValueError(said)
        return self


def _literal(text: str) -> str:
    """Write a text as a pattern that matches it alone."""
    return _SPECIAL.sub(lambda found: f"[{found[0]}]", text)
