"""Files to chunks: layers off, format found, facts of the file added. The formats themselves are in their modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from dagster_project.ingest.chunk import Chunk, Column, Kind
from dagster_project.ingest.errors import DataRefusedError
from dagster_project.ingest.parse.layers import Member, members
from dagster_project.ingest.parse.shape import constant, row_numbers

if TYPE_CHECKING:
    from dagster_project.ingest.cards.file import FileSourceCard, FileStream
    from dagster_project.ingest.landing.model import LandedObject


def read_file(
    card: FileSourceCard, stream: FileStream, obj: LandedObject, open_bytes: Callable[[], BinaryIO]
) -> Iterator[Chunk]:
    """Read a landed file, or the members of a landed archive one after another.

    Raises:
        DataRefusedError: The file as a whole can't be read.
    """
    ordinal = 1
    for member in members(obj.origin, open_bytes, card, stream):
        for chunk in _member(card, stream, member, ordinal):
            last = max((refusal.ordinal or 0 for refusal in chunk.refused), default=0)
            if chunk.rows:
                at_end = chunk.first_ordinal + chunk.rows - 1 if chunk.ordinals is None else chunk.ordinals[-1].as_py()
                last = max(last, at_end)
            ordinal = max(ordinal, last + 1)
            for name, fact in stream.add.items():
                if name in chunk.columns:
                    raise DataRefusedError(
                        f"{member.name}: has a column {name!r} itself: give the one of `add` another name in the card"
                    )
                chunk.columns[name] = _fact(fact, chunk, obj)
            yield chunk


def _member(card: FileSourceCard, stream: FileStream, member: Member, ordinal: int) -> Iterator[Chunk]:
    if member.format == "csv":
        from dagster_project.ingest.parse.csv import read_csv

        yield from read_csv(member.stream, stream, member.name, ordinal)
    elif member.format == "jsonl":
        from dagster_project.ingest.parse.json import read_lines

        yield from read_lines(member.stream, first_ordinal=ordinal, nul_bytes=stream.nul_bytes)
    elif member.format == "json":
        from dagster_project.ingest.parse.json import read_document

        yield from read_document(
            member.stream,
            stream.records,
            member.name,
            limit=card.max_document,
            first_ordinal=ordinal,
            nul_bytes=stream.nul_bytes,
        )
    elif member.format == "parquet":
        from dagster_project.ingest.parse.parquet import read_parquet

        yield from read_parquet(member.stream, member.name, ordinal, nul_bytes=stream.nul_bytes)
    else:
        from dagster_project.ingest.parse.xlsx import read_workbook

        yield from read_workbook(member.stream, stream, member.name, ordinal, limit=card.max_document)


def _fact(fact: str, chunk: Chunk, obj: LandedObject) -> Column:
    import pyarrow as pa

    if fact == "row_number":
        return Column(row_numbers(chunk).cast(pa.string()), Kind.INTEGER)
    if fact == "file_path":
        return constant(obj.origin, Kind.STRING, chunk.rows)
    if fact == "file_name":
        return constant(PurePosixPath(obj.origin).name, Kind.STRING, chunk.rows)
    return constant(obj.meta.get("modified_at"), Kind.TIMESTAMPTZ, chunk.rows)
