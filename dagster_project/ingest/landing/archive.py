"""The archive of raw bytes: content-addressed, compressed, durable before anybody is told about it.

An object lives at ``objects/<first two digits of its sha256>/<the other digits>`` below the archive's root, with
``.zst`` behind it where it is compressed here. Its name says what it must contain, so reading proves it, and putting
the same bytes again writes nothing. Who landed what, when and from where is the landing log's matter (``log``).
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Protocol, cast

import zstandard

from dagster_project.ingest.errors import LandingError, SourceError
from dagster_project.ingest.landing.reader import VerifyingReader

BLOCK = 1024 * 1024
"""Bytes read, hashed and compressed at a time."""
LEVEL = 3
"""Zstandard's level: a CSV of ratings becomes 0.22 of itself at 190 MB/s with hashing, 330 MB/s in two threads."""
THREADED_FROM = 8 * BLOCK
"""Input from which compressing in threads pays."""
STALE = 3600.0
"""Seconds without a write after which a temporary file belongs to a process that was killed."""
SETTLED = 120.0
"""Seconds after which a file is on the disk, whatever became of who wrote it: systems write back after 30 or so."""
_COMPRESSED_MEDIA = frozenset(
    {
        *("application/zip", "application/gzip", "application/x-gzip", "application/zstd", "application/x-bzip2"),
        *("application/x-xz", "application/x-7z-compressed", "application/vnd.apache.parquet", "application/epub+zip"),
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"),
    }
)
_COMPRESSED_SUFFIXES = frozenset(
    {
        *(".zip", ".gz", ".tgz", ".zst", ".bz2", ".xz", ".7z", ".parquet", ".xlsx", ".xlsm", ".xlsb", ".ods"),
        *(".epub", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif"),
    }
)


class Readable(Protocol):
    """Something to read bytes from."""

    def read(self, size: int = -1, /) -> bytes:
        """Give at most ``size`` bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """Where bytes are kept."""

    uri: str
    """Relative to the archive's root."""
    sha256: str | None
    """Of the bytes as received; None where they stay in a versioned bucket that doesn't tell it."""
    size: int
    """Of the bytes as received."""
    new: bool = True
    """Whether the archive didn't have them yet."""


def is_compressed(*, media_type: str | None = None, name: str | None = None) -> bool:
    """Tell whether bytes of this media type or file name are compressed already, so that doing it again is waste."""
    if media_type and media_type.partition(";")[0].strip().lower() in _COMPRESSED_MEDIA:
        return True
    return name is not None and PurePath(name).suffix.lower() in _COMPRESSED_SUFFIXES


class Archive:
    """A folder of content-addressed objects. Safe for threads, and for processes that share the folder."""

    def __init__(self, root: str) -> None:
        if "://" in root:
            raise LandingError(f"landing root {root!r}: give a folder's path, or s3://bucket/prefix")
        self.root = Path(root).absolute()
        self._folder = str(self.root)
        self._temporaries = self.root / "tmp"
        self._prepared = False
        self._of_thread = threading.local()

    def put(self, data: bytes | Readable | Iterable[bytes], *, compressed: bool = False) -> Stored:
        """Keep bytes for good; return when they would survive a power cut.

        Args:
            data: The bytes, a readable stream of them, or an iterable of blocks. A stream is read to its end, 1 MiB at
                a time, whatever its size.
            compressed: Whether they are compressed already (``is_compressed``), so that they are kept as they are.

        Raises:
            LandingError: The folder can't be written.
            SourceError: The stream can't be read.
        """
        self._prepare()
        if isinstance(data, bytes):
            return self._put_bytes(data, compressed)
        blocks = object_blocks(data)
        head = next(blocks, b"")
        following = next(blocks, None)
        if following is None:
            return self._put_bytes(head, compressed)
        return self._put_stream(chain((head, following), blocks), compressed)

    def open(self, uri: str, sha256: str | None = None) -> BinaryIO:
        """Give the bytes as they were received, proving them on the way.

        The reader is seekable where the object is kept as it is (files that were compressed already): the first seek
        proves the whole file. Otherwise it is read once, from start to end.

        Args:
            uri: As ``put`` returned it.
            sha256: What the bytes must hash to; by default what the object's name says.

        Raises:
            LandingError: The object is missing; or, while reading, it isn't what it was.
        """
        path = self.path(uri)
        wanted = sha256 or path.parent.name + path.name.removesuffix(".zst")
        try:
            raw = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise LandingError(
                f"{path}: the archived bytes are gone. Restore the file from a backup of {self.root}, or fetch the "
                "source again with --full-refresh"
            ) from None
        except OSError as error:
            raise LandingError(f"{path}: can't be read ({error.strerror}): check its owner and permissions") from error
        reader = VerifyingReader(cast(BinaryIO, raw), path, wanted, compressed=uri.endswith(".zst"))
        return io.BufferedReader(reader, BLOCK // 4)

    def touch(self, uri: str) -> bool:
        """Tell whether an object is there, and keep it from being removed while somebody writes that it is needed."""
        path = self.path(uri)
        try:
            if time.time() - path.stat().st_mtime > STALE:
                os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def remove(self, uri: str, grace: float = 2 * STALE) -> int | None:
        """Remove an object that nothing refers to any more.

        Args:
            uri: As ``put`` returned it.
            grace: Seconds since it was last put or touched within which somebody may be about to refer to it.

        Returns:
            The bytes that it took on the disk, 0 where it is gone already; None where it stays because it is young.

        Raises:
            LandingError: The folder can't be written.
        """
        path = self.path(uri)
        aside = path.with_name(path.name + ".removed")
        try:
            try:
                if time.time() - path.stat().st_mtime < grace:
                    return None
                # Aside first: whoever touches it between this look and its end either comes too late, and puts the
                # bytes anew, or is seen now.
                path.rename(aside)
            except FileNotFoundError:
                if not aside.exists():
                    return 0
                # A removal was killed here.
            facts = aside.stat()
            if time.time() - facts.st_mtime < grace:
                aside.rename(path)
                return None
            aside.unlink()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._cannot_write(error) from error
        return facts.st_size

    def path(self, uri: str) -> Path:
        """Name the file of an object.

        Raises:
            LandingError: The URI leads out of the archive.
        """
        path = self.root / uri
        if ".." in path.parts or not path.is_relative_to(self.root):
            raise LandingError(f"landing object {uri!r} lies outside {self.root}")
        return path

    def _put_bytes(self, data: bytes, compressed: bool) -> Stored:
        digest = hashlib.sha256(data).hexdigest()
        if found := self._existing(digest, len(data)):
            return found
        body = data if compressed else self._compressor().compress(data)
        with self._temporary() as (temporary, handle):
            handle.write(body)
            return self._publish(temporary, handle, digest, len(data), compressed)

    def _put_stream(self, blocks: Iterator[bytes], compressed: bool) -> Stored:
        digest = hashlib.sha256()
        size = 0
        squeeze: Any = None
        with self._temporary() as (temporary, handle):
            pending: list[bytes] = []
            for block in blocks:
                digest.update(block)
                size += len(block)
                if compressed:
                    handle.write(block)
                    continue
                if squeeze is None:
                    pending.append(block)
                    if size < THREADED_FROM:
                        continue
                    squeeze = zstandard.ZstdCompressor(level=LEVEL, threads=2).compressobj()
                    block = b"".join(pending)
                    pending.clear()
                handle.write(squeeze.compress(block))
            if squeeze is not None:
                handle.write(squeeze.flush())
            elif pending:
                handle.write(self._compressor().compress(b"".join(pending)))
            found = self._existing(digest.hexdigest(), size)
            return found or self._publish(temporary, handle, digest.hexdigest(), size, compressed)

    def _existing(self, digest: str, size: int) -> Stored | None:
        """Find bytes that are kept already, and prove them: a damaged object is no reason not to write a good one."""
        for suffix in (".zst", ""):
            uri = object_uri(digest, suffix)
            path = os.path.join(self._folder, uri)  # noqa: PTH118 - twice for each page: pathlib costs more than the look
            try:
                age = time.time() - os.stat(path).st_mtime  # noqa: PTH116
                with self.open(uri) as reader:
                    while reader.read(BLOCK):
                        pass
                if age < SETTLED:
                    _sync(path)
                    _sync(os.path.dirname(path))  # noqa: PTH120
                elif age > STALE:
                    os.utime(path)  # young again: whoever removes old objects leaves it alone
            except FileNotFoundError:
                continue
            except LandingError:
                Path(path).unlink(missing_ok=True)
                continue
            return Stored(uri, digest, size, new=False)
        return None

    def _publish(self, temporary: str, handle: BinaryIO, digest: str, size: int, compressed: bool) -> Stored:
        """Give a written file its name, and return when it and its name are on the disk.

        Named first and flushed then, so that file systems write both in one go; who reads the name meanwhile proves the
        bytes and flushes them too.
        """
        handle.flush()
        uri = object_uri(digest, "" if compressed else ".zst")
        target = os.path.join(self._folder, uri)  # noqa: PTH118
        folder = os.path.dirname(target)  # noqa: PTH120
        try:
            try:
                os.rename(temporary, target)  # noqa: PTH104
            except FileNotFoundError:
                Path(folder).mkdir(exist_ok=True)
                os.rename(temporary, target)  # noqa: PTH104
                _sync(os.path.dirname(folder))  # noqa: PTH120
            os.fsync(handle.fileno())
            _sync(folder)
        except OSError:
            # What the disk refused looks well in memory for a while: it must not be found.
            Path(target).unlink(missing_ok=True)
            raise
        return Stored(uri, digest, size)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[str, BinaryIO]]:
        """Open a file to write before it has its name; gone afterwards unless it was renamed."""
        path = f"{self._temporaries}/{os.getpid()}-{secrets.token_hex(8)}.part"
        try:
            with open(path, "xb", buffering=BLOCK) as handle:
                yield path, handle
        except OSError as error:
            raise self._cannot_write(error) from error
        finally:
            try:
                os.unlink(path)  # noqa: PTH108
            except FileNotFoundError:
                pass  # it has its name

    def _prepare(self) -> None:
        """Make the folders, and remove what killed processes left, once."""
        if self._prepared:
            return
        try:
            self._temporaries.mkdir(parents=True, exist_ok=True)
            (self.root / "objects").mkdir(exist_ok=True)
            for path in self._temporaries.iterdir():
                if time.time() - path.stat().st_mtime > STALE:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # another process, cleaning too, was first
        except OSError as error:
            raise self._cannot_write(error) from error
        self._prepared = True

    def _compressor(self) -> zstandard.ZstdCompressor:
        # A compressor serves one thread; making one costs more than compressing a page.
        compressor: zstandard.ZstdCompressor | None = getattr(self._of_thread, "compressor", None)
        if compressor is None:
            compressor = self._of_thread.compressor = zstandard.ZstdCompressor(level=LEVEL)
        return compressor

    def _cannot_write(self, error: OSError) -> LandingError:
        where = f"the landing archive {self.root} can't be written"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return LandingError(
                f"{where}: no space left. Free some, let retention remove old bytes (`archive: {{keep: 90d}}` in the "
                "card), or move it with BINDERY_LANDING_URL; then run again: what was landed before stays"
            )
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            return LandingError(
                f"{where}: {error.strerror}. Give user {os.geteuid()} write permission on it, or move it with "
                "BINDERY_LANDING_URL"
            )
        return LandingError(f"{where}: {error.strerror or error} ({error.filename or self.root})")


def object_uri(digest: str, suffix: str) -> str:
    """Name an object by what it contains."""
    return f"objects/{digest[:2]}/{digest[2:]}{suffix}"


def object_blocks(data: Readable | Iterable[bytes]) -> Iterator[bytes]:
    """Give the blocks of a stream.

    Raises:
        SourceError: It can't be read.
    """
    read = getattr(data, "read", None)
    if read is None:
        yield from cast("Iterable[bytes]", data)
        return
    try:
        while block := read(BLOCK):
            yield block
    except OSError as error:
        raise SourceError(f"reading the source's bytes failed: {error}") from error


def _sync(path: str) -> None:
    """Make a file's bytes, or a folder's new entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
