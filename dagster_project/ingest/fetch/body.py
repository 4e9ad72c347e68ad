"""Reading an answer's body: whole or not at all, within a size and a ratio of decompression.

Bytes are read as they come, never more than one receive at a time. Decompression is done here in small steps: a bomb
is found while it is still small. How long it may take is kept at the socket (``deadline``).
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Protocol

from dagster_project.ingest.errors import SourceError

BLOCK = 256 * 1024
SPOOL = 8 * 1024 * 1024
"""Bodies up to here stay in memory; longer ones go to a temporary file."""
MAX_RATIO = 500
"""Of decompressed to compressed size: text stays below 100, a bomb of zeros reaches 1000."""
RATIO_FROM = 16 * 1024 * 1024
"""Decompressed bytes from which the ratio counts."""


class BodyTooLarge(SourceError):
    """An answer is larger than the card allows, or a decompression bomb."""


class Truncated(Exception):
    """The body ended too early: the request may be tried again."""


class Raw(Protocol):
    """urllib3's response, as far as it is used here."""

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """Give what one receive gives."""
        ...


Body = tuple[bytes, IO[bytes] | None, int]
"""The bytes, or a file that holds them (from its start), and their number."""


def read_body(raw: Raw, encoding: str, *, limit: int) -> Body:
    """Read and decompress a whole body.

    Args:
        raw: The response; a wrong length makes it raise by itself.
        encoding: The ``Content-Encoding``.
        limit: Most bytes, after decompression.

    Raises:
        BodyTooLarge: Past the limit, or a decompression bomb.
        Truncated: It ended too early.
        SourceError: It is compressed in a way that nobody asked for.
    """
    received = 0

    def blocks() -> Iterator[bytes]:
        nonlocal received
        while block := raw.read1(BLOCK, decode_content=False):
            received += len(block)
            yield block

    parts: list[bytes] = []
    spool: IO[bytes] | None = None
    size = 0
    try:
        for block in _decoded(blocks(), encoding):
            size += len(block)
            if size > limit:
                raise BodyTooLarge(
                    f"the answer is larger than {limit} bytes: raise `max_body` in the card if it may be"
                )
            if size > RATIO_FROM and size > MAX_RATIO * received:
                raise BodyTooLarge(f"{received} received bytes became {size}: a decompression bomb")
            if spool is None and size <= SPOOL:
                parts.append(block)
                continue
            if spool is None:
                spool = tempfile.TemporaryFile(prefix="bindery-body-")  # noqa: SIM115 - the answer closes it
                spool.writelines(parts)
                parts.clear()
            spool.write(block)
    except BaseException:
        if spool is not None:
            spool.close()
        raise
    if spool is not None:
        spool.seek(0)
    return b"".join(parts), spool, size


def _decoded(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return blocks
    if encoding in {"gzip", "x-gzip"}:
        return _inflated(blocks, [zlib.MAX_WBITS | 16], several=True)
    if encoding == "deflate":
        # By the standard a zlib stream; some servers send it bare.
        return _inflated(blocks, [zlib.MAX_WBITS, -zlib.MAX_WBITS], several=False)
    raise SourceError(f"the answer is compressed as {encoding!r}, though only gzip and deflate were offered")


def _inflated(blocks: Iterator[bytes], kinds: list[int], *, several: bool) -> Iterator[bytes]:
    inflate = zlib.decompressobj(kinds[0])
    started = False
    for block in blocks:
        data = block
        while data:
            if inflate.eof:
                if not several:
                    break  # bytes behind the end
                inflate = zlib.decompressobj(kinds[0])
            try:
                piece = inflate.decompress(data, BLOCK)
            except zlib.error as error:
                if not started and len(kinds) > 1:
                    kinds = kinds[1:]
                    inflate = zlib.decompressobj(kinds[0])
                    continue
                raise Truncated(f"the compressed body is damaged: {error}") from None
            started = True
            if piece:
                yield piece
            # What the size of a step left over, or what lies behind the end of a gzip member.
            data = inflate.unconsumed_tail or (inflate.unused_data if inflate.eof else b"")
    if started and not inflate.eof:
        rest = inflate.flush()
        if rest:
            yield rest
        if not inflate.eof:
            raise Truncated("the compressed body ended too early")
