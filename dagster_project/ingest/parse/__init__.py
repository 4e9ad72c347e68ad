"""Parsing: landed bytes to chunks of rows, whatever the format. Names and types are the loader's business.

``read`` is the one way in. Each format has a module of its own, imported when it is used: ``csv`` (with ``dialect``,
``encoding``, ``quoting`` and ``lenient``), ``json``, ``parquet``, ``xlsx``, ``html``; ``records`` turns dicts into
chunks, ``layers`` peels off compression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from dagster_project.ingest.cards.file import FileSourceCard, FileStream
from dagster_project.ingest.cards.rest import RestStream
from dagster_project.ingest.cards.web import WebSourceCard, WebStream

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import SourceCard, StreamCard
    from dagster_project.ingest.chunk import Chunk
    from dagster_project.ingest.landing.model import LandedObject


def read(
    card: SourceCard,
    stream: StreamCard,
    obj: LandedObject,
    open_bytes: Callable[[], BinaryIO],
    *,
    limit: int | None = None,
) -> Iterator[Chunk]:
    """Read one landed object as chunks of rows.

    Args:
        card: The source's card, for its limits.
        stream: The stream that the object belongs to.
        obj: The object: its origin (for the format and errors) and its ``meta``.
        open_bytes: Opens the bytes as they were received.
        limit: Most rows to give.

    Yields:
        Chunks in the order of the rows; ordinals count rows of the object from 1, refused ones included.

    Raises:
        DataRefusedError: The object as a whole can't be read: damaged, too large, not what the card says.
        CardError: The card asks for what can't be done (an encoding or selector that doesn't exist).
    """
    from dagster_project.ingest.parse.shape import limited, without_ignored

    chunks = without_ignored(_chunks(card, stream, obj, open_bytes), stream.ignore)
    if isinstance(stream, FileStream) and stream.recipe is not None:
        from dagster_project.ingest.parse.recipe import apply_recipe

        chunks = apply_recipe(stream.recipe, chunks)
    yield from chunks if limit is None else limited(chunks, limit)


def _chunks(
    card: SourceCard, stream: StreamCard, obj: LandedObject, open_bytes: Callable[[], BinaryIO]
) -> Iterator[Chunk]:
    if isinstance(stream, FileStream) and isinstance(card, FileSourceCard):
        from dagster_project.ingest.parse.file import read_file

        return read_file(card, stream, obj, open_bytes)
    if isinstance(stream, RestStream):
        return _answer(card, stream, obj, open_bytes)
    if isinstance(stream, WebStream) and isinstance(card, WebSourceCard):
        from dagster_project.ingest.parse.html import read_page

        return read_page(stream, obj, open_bytes)
    raise TypeError(f"no parser for a {type(stream).__name__} of a {type(card).__name__}")


def _answer(
    card: SourceCard, stream: RestStream, obj: LandedObject, open_bytes: Callable[[], BinaryIO]
) -> Iterator[Chunk]:
    """Read an API's answer; the parent's fields that the card includes are in ``meta["parent"]``.

    Where the source can't be asked for what is new, ``meta["cursor"]`` says above which cursor records are wanted.
    """
    from dagster_project.ingest.fetch.cursor import newer_than
    from dagster_project.ingest.parse import json

    extra = dict(obj.meta.get("parent") or {})
    cursor = obj.meta.get("cursor")
    with open_bytes() as body:
        if stream.format == "jsonl":
            yield from json.read_lines(body, nul_bytes=stream.nul_bytes, extra=extra)
        else:
            limit = getattr(card, "max_body", 256 * 1024 * 1024)
            yield from json.read_document(
                body,
                stream.records,
                obj.origin,
                limit=limit,
                nul_bytes=stream.nul_bytes,
                extra=extra,
                keep=newer_than(cursor["field"], cursor["above"]) if cursor else None,
            )
