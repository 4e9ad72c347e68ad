"""Compression and archives around a file, peeled off by what the bytes say: gzip, bzip2, Zstandard, zip.

Nothing is unpacked to a place of its own: members are streamed. A file that grows out of proportion is an archive bomb
and refused; one that ends too early is refused rather than read in part.
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from dagster_project.ingest.errors import DamagedObjectError, DataRefusedError

if TYPE_CHECKING:
    from dagster_project.ingest.cards.file import FileSourceCard, FileStream

FORMATS = {
    **dict.fromkeys(("csv", "tsv", "tab", "txt", "psv", "dat"), "csv"),
    **dict.fromkeys(("jsonl", "ndjson", "jsonlines"), "jsonl"),
    **dict.fromkeys(("json", "geojson"), "json"),
    **dict.fromkeys(("parquet", "pq"), "parquet"),
    **dict.fromkeys(("xlsx", "xlsm", "xls", "xlsb", "ods"), "xlsx"),
}
"""Suffix -> format."""
_LAYERS = {".gz": "gzip", ".gzip": "gzip", ".bz2": "bzip2", ".zst": "Zstandard", ".zstd": "Zstandard"}
_MAGIC = ((b"\x1f\x8b\x08", "gzip"), (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "Zstandard"))
_FREE = 64 * 1024 * 1024
"""Decompressed bytes up to which no ratio is suspicious."""
_MAX_DEPTH = 2


@dataclass(slots=True)
class Member:
    """One file to parse, free of its layers."""

    name: str
    """For errors: the file, and the member inside an archive."""
    format: str
    stream: IO[bytes]


class _Counted:
    """A stream with look-ahead, that counts what was read and refuses a bomb."""

    def __init__(self, inner: Any, name: str, layer: str = "", packed: _Counted | None = None) -> None:
        self._inner = inner
        self._ahead = b""
        self._name = name
        self._layer = layer
        self._packed = packed
        self.packed_size = 0
        self.count = 0
        self.before = 0
        """Bytes of the members before this one: the bounds are of the whole archive."""
        self.max_bytes: float = float("inf")
        self.max_ratio: float = float("inf")

    def peek(self, size: int) -> bytes:
        """Look at the next bytes without taking them."""
        while len(self._ahead) < size and (more := self._guarded(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        """Take bytes, at most ``size``; empty at the end."""
        if size < 0:
            parts = [self._ahead]
            self._ahead = b""
            while part := self._guarded(1024 * 1024):
                parts.append(part)
            return b"".join(parts)
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._guarded(size)

    def _guarded(self, size: int) -> bytes:
        try:
            data = bytes(self._inner.read(size))
        except (EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise self._broken(error) from None
        except OSError as error:
            if not self._layer:
                raise
            raise self._broken(error) from None
        self.count += len(data)
        packed = self._packed.count if self._packed else self.packed_size
        size = self.before + self.count
        if size > self.max_bytes:
            raise DamagedObjectError(
                f"{self._name}: more than {self.max_bytes / 1024**3:.1f} GiB after decompression: raise "
                "`max_decompressed` in the card if the file is meant to be that large"
            )
        if packed and size > _FREE and size > packed * self.max_ratio:
            raise DamagedObjectError(
                f"{self._name}: grows more than {self.max_ratio:.0f} times when decompressed, as archive bombs do: "
                "raise `max_ratio` in the card if the file is meant to"
            )
        return data

    def _broken(self, error: Exception) -> DamagedObjectError:
        what = self._layer or "archive"
        return DamagedObjectError(
            f"{self._name}: its {what} data end too early or are damaged ({error}); get the file again"
        )

    # What gzip, bz2 and Arrow ask of a file.
    closed = False

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can't be sought."""
        return False

    def close(self) -> None:
        """Close the stream below."""
        self._inner.close()


def members(
    origin: str, open_bytes: Callable[[], BinaryIO], card: FileSourceCard, stream: FileStream
) -> Iterator[Member]:
    """Give the files inside a landed object, one after another, in the order of their names.

    Raises:
        DamagedObjectError: Damaged or truncated, a bomb, or encrypted.
        DataRefusedError: Without a member to read.
    """
    raw = open_bytes()
    try:
        yield from _peel(_Counted(raw, origin), PurePosixPath(origin), origin, card, stream, depth=0, in_zip=False)
    finally:
        raw.close()


def _peel(
    source: _Counted,
    path: PurePosixPath,
    name: str,
    card: FileSourceCard,
    stream: FileStream,
    *,
    depth: int,
    in_zip: bool,
) -> Iterator[Member]:
    layer = next((layer for magic, layer in _MAGIC if source.peek(10).startswith(magic)), None)
    if layer == "bzip2" and source.peek(10)[4:10] not in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        layer = None
    if layer:
        if depth >= _MAX_DEPTH:
            raise DamagedObjectError(f"{name}: compressed more than {_MAX_DEPTH} times over")
        inner = _Counted(_decompressor(layer, source), name, layer, source)
        inner.max_bytes, inner.max_ratio = card.max_decompressed, card.max_ratio
        if _LAYERS.get(path.suffix.lower()) == layer:
            path = path.with_suffix("")
        yield from _peel(inner, path, name, card, stream, depth=depth + 1, in_zip=in_zip)
        return
    suffix = path.suffix.lower().lstrip(".")
    known = FORMATS.get(suffix)
    wanted = None if stream.format == "auto" else stream.format
    if source.peek(4) in (b"PK\x03\x04", b"PK\x05\x06") and (wanted or known) != "xlsx":
        yield from _zipped(source, name, card, stream, in_zip=in_zip)
        return
    form = wanted or (known if suffix not in ("txt", "dat") else None) or by_content(source.peek(4096))
    yield Member(name, form, cast("IO[bytes]", source))


def _decompressor(layer: str, source: _Counted) -> Any:
    if layer == "gzip":
        return gzip.GzipFile(fileobj=cast("BinaryIO", source), mode="rb")
    if layer == "bzip2":
        return bz2.BZ2File(cast("BinaryIO", source))
    import pyarrow as pa

    # Arrow's reader, unlike zstandard's, notices a frame that ends too early.
    return pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")


def spool(source: IO[bytes]) -> IO[bytes]:
    """Copy a stream to a temporary file, for readers that must seek."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by its user
    shutil.copyfileobj(source, file, 1024 * 1024)
    file.seek(0)
    return file


def _zipped(source: _Counted, name: str, card: FileSourceCard, stream: FileStream, *, in_zip: bool) -> Iterator[Member]:
    if in_zip:
        raise DamagedObjectError(f"{name}: a zip archive inside a zip archive; unpack the outer one")
    with spool(cast("IO[bytes]", source)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise DamagedObjectError(
                f"{name}: its zip data end too early or are damaged ({error}); get it again"
            ) from None
        with archive:
            infos = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda info: info.filename)
            if any(info.filename == "[Content_Types].xml" for info in infos) and not stream.member:
                file.seek(0)
                yield Member(name, "xlsx", file)
                return
            chosen = [info for info in infos if _chosen(info.filename, stream)]
            if not chosen:
                has = [info.filename for info in infos][:20]
                what = f"no member like {stream.member!r}" if stream.member else "no member of a known format"
                raise DataRefusedError(f"{name}: {what}; it has {has}. Name one with `member` in the card")
            whole = file.seek(0, 2)
            size = packed = 0
            for info in chosen:
                label = f"{name}!{info.filename}"
                if info.flag_bits & 0x1:
                    raise DamagedObjectError(f"{label}: encrypted; drop it decrypted")
                try:
                    opened = archive.open(info)
                except (NotImplementedError, zipfile.BadZipFile, RuntimeError) as error:
                    raise DamagedObjectError(f"{label}: can't be unpacked: {error}") from None
                with opened:
                    inner = _Counted(opened, label, "zip")
                    packed += info.compress_size
                    inner.packed_size, inner.before = max(min(packed, whole), 1), size
                    inner.max_bytes, inner.max_ratio = card.max_decompressed, card.max_ratio
                    path = PurePosixPath(info.filename)
                    yield from _peel(inner, path, label, card, stream, depth=1, in_zip=True)
                    size += inner.count


def _chosen(member: str, stream: FileStream) -> bool:
    path = PurePosixPath(member)
    # "..": where a member wants to be unpacked to is nothing to us, who read it where it is.
    if any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in path.parts):
        return False
    if stream.member:
        return fnmatch.fnmatch(member, stream.member) or fnmatch.fnmatch(path.name, stream.member)
    if path.suffix.lower() in _LAYERS:
        path = path.with_suffix("")
    return path.suffix.lower().lstrip(".") in FORMATS


def by_content(head: bytes) -> str:
    """Tell a file's format by its first bytes, where its name doesn't."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "xlsx"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        first, newline, rest = text.partition(b"\n")
        return "jsonl" if newline and first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{") else "json"
    if text.startswith(b"[") and text[1:].lstrip()[:1] in (b"{", b"[", b"]"):
        return "json"
    return "csv"
