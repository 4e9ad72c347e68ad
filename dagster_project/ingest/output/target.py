"""Where output goes: a folder or a bucket. A file appears under its name when it is whole, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from abc import abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self

from dagster_project.ingest.errors import LandingError, TransientLandingError
from dagster_project.ingest.s3.client import client
from dagster_project.ingest.s3.parts import Parts
from dagster_project.ingest.s3.place import is_bucket, place_of
from dagster_project.ingest.s3.refusal import told

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from dagster_project.ingest.s3.place import Place


class OutputError(LandingError):
    """Output can't be written."""


class TransientOutputError(TransientLandingError):
    """Output can't be written now."""


class Sink(io.RawIOBase):
    """A file that is being written; it gets its name at the end of a ``with`` that wasn't left by an error."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def tell(self) -> int:
        """Give the bytes written."""
        return self.size

    def write(self, data: ReadableBuffer, /) -> int:
        """Take bytes."""
        piece = bytes(data)
        self._digest.update(piece)
        self.size += len(piece)
        self._write(piece)
        return len(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(good=kind is None)

    @abstractmethod
    def _write(self, piece: bytes) -> None: ...

    @abstractmethod
    def _end(self, *, good: bool) -> None: ...


class Target(Protocol):
    """A place for files."""

    def sink(self, name: str) -> Sink:
        """Begin a file."""
        ...

    def url(self, name: str) -> str:
        """Say where a file is."""
        ...


def target_at(path: str, base: Path) -> Target:
    """Give the place that a card's path means.

    Raises:
        CardError: It is no place.
    """
    return BucketTarget(place_of(path)) if is_bucket(path) else FolderTarget(base / Path(path).expanduser())


class FolderTarget:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def sink(self, name: str) -> Sink:
        """Begin a file."""
        return _FileSink(self.root / name)

    def url(self, name: str) -> str:
        """Say where a file is."""
        return str(self.root / name)


class BucketTarget:
    """A bucket's prefix."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def sink(self, name: str) -> Sink:
        """Begin an object."""
        return _ObjectSink(self.place.bucket, self.place.key(name))

    def url(self, name: str) -> str:
        """Say where an object is."""
        return self.place.url(name)


class _FileSink(Sink):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._temporary.open("xb")
        except OSError as error:
            raise self._refused(error) from error

    def _write(self, piece: bytes) -> None:
        try:
            self._file.write(piece)
        except OSError as error:
            raise self._refused(error) from error

    def _end(self, *, good: bool) -> None:
        try:
            with self._file:
                if good:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            if good:
                self._temporary.replace(self._path)
            else:
                self._temporary.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            f"output {self._path} can't be written ({error.strerror}): check `output.path`, room and owner"
        )


class _ObjectSink(Sink):
    def __init__(self, bucket: str, key: str) -> None:
        super().__init__()
        self._parts = Parts(bucket, key, self._told)

    def _write(self, piece: bytes) -> None:
        self._parts.write(piece)

    def _end(self, *, good: bool) -> None:
        with self._parts as parts:
            if not good:
                return
            if not parts.empty:
                parts.finish()
                return
            with self._told("PutObject", parts.key):
                client("s3").put_object(Bucket=parts.bucket, Key=parts.key, Body=parts.held())

    def _told(self, operation: str, key: str) -> Any:
        return told(operation, f"output s3://{self._parts.bucket}/{key}", OutputError, TransientOutputError)
