"""Reading archived bytes back, and proving on the way that they are what was put."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import zstandard

from dagster_project.ingest.errors import LandingError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK = 1024 * 1024


class VerifyingReader(io.RawIOBase):
    """An archived object's bytes as received; raises at their end when they don't hash to what they should.

    An object kept as it is can be sought in: the first seek proves the whole file, then reading is free. A compressed
    one is read once, in order.
    """

    def __init__(self, raw: BinaryIO, path: Path | str, sha256: str, *, compressed: bool) -> None:
        self._raw = raw
        self._path = path
        self._wanted = sha256
        self._compressed = compressed
        self._source: Any = (
            zstandard.ZstdDecompressor().stream_reader(raw, read_size=_BLOCK, read_across_frames=True)
            if compressed
            else raw
        )
        self._digest = hashlib.sha256()
        self._proven = False

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell whether it can be sought in: objects kept as they are can."""
        return not self._compressed

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer as far as one read goes; nothing at the end.

        Raises:
            LandingError: The object is damaged.
        """
        view = memoryview(buffer).cast("B")
        try:
            count: int = self._source.readinto(view) or 0
        except zstandard.ZstdError as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise self._damaged(error.strerror or str(error)) from error
        if not self._proven:
            if count:
                self._digest.update(view[:count])
            elif len(view):
                self._check()
        return count

    def tell(self) -> int:
        """Give the position in the bytes as received."""
        return int(self._source.tell())

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position; prove the whole object before the first move.

        Raises:
            LandingError: The object is damaged.
            io.UnsupportedOperation: It is compressed here and can only be read in order.
        """
        if self._compressed:
            raise io.UnsupportedOperation("seek in an object that the archive compressed")
        if not self._proven:
            here = self._raw.tell()
            self._raw.seek(0)
            self._digest = hashlib.sha256()
            while block := self._raw.read(_BLOCK):
                self._digest.update(block)
            self._check()
            self._raw.seek(here)
        return self._raw.seek(offset, whence)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._source.close()
            self._raw.close()
            super().close()

    def _check(self) -> None:
        if self._digest.hexdigest() != self._wanted:
            raise self._damaged(f"its bytes hash to {self._digest.hexdigest()}, not to {self._wanted}")
        self._proven = True

    def _damaged(self, why: str) -> LandingError:
        return LandingError(
            f"{self._path}: the archived bytes are damaged ({why}). Restore the file from a backup, or delete it and "
            "fetch the source again with --full-refresh"
        )
