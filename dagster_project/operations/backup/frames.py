"""Dumps that arrive through one pipe, from the database's container, where pg_dump is and Python isn't.

Lines: ``begin NAME``, the dump as one line of base64, and after the last ``end``. A pipe that breaks has no ``end``:
only a complete stream becomes a backup. ``deploy/backup/dump.sh`` writes it.
"""

from __future__ import annotations

import binascii
import io
from collections.abc import Iterator
from typing import IO, cast

from dagster_project.operations.backup import BackupError

_READ = 2**20
"""Characters at a time; a multiple of four, so that each piece can be decoded by itself."""
BROKEN = "the dump broke off: look at what the database's container says (`make logs SERVICE=postgres`)"


class Frames:
    """Reads the stream, dump after dump."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = io.BufferedReader(cast(io.RawIOBase, source), _READ) if _is_raw(source) else source

    def __iter__(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Give name and bytes of each dump; one must be read to its end before the next.

        Raises:
            BackupError: The stream breaks off, or isn't one.
        """
        while True:
            line = self._source.readline(200)
            if line == b"end\n":
                return
            if not line.startswith(b"begin ") or not line.endswith(b"\n"):
                raise BackupError(BROKEN)
            content = _Decoded(self._source)
            yield line.split()[1].decode(), cast(IO[bytes], content)
            if not content.complete:
                raise BackupError(BROKEN)


def _is_raw(source: IO[bytes]) -> bool:
    return isinstance(source, io.RawIOBase)


class _Decoded:
    """Reads one line of base64 as the bytes that it stands for."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._kept, self._odd = source, bytearray(), b""
        self.complete = False

    def read(self, size: int) -> bytes:
        """Give at most so many bytes, none at the end.

        Raises:
            BackupError: The stream breaks off.
        """
        while len(self._kept) < size and not self.complete:
            text = self._source.readline(_READ)
            if not text:
                raise BackupError(BROKEN)
            self.complete = text.endswith(b"\n")
            text = self._odd + text.rstrip(b"\n")
            whole = len(text) - len(text) % 4
            self._odd = text[whole:]
            try:
                self._kept += binascii.a2b_base64(text[:whole], strict_mode=True)
            except binascii.Error:
                raise BackupError(BROKEN) from None
        if self.complete and self._odd:
            raise BackupError(BROKEN)
        given = bytes(self._kept[:size])
        del self._kept[:size]
        return given
