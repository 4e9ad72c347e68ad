"""An object of a bucket as a file: streamed from start to end, or, once somebody seeks in it, from a temporary file."""

from __future__ import annotations

import io
import os
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, cast
from urllib.parse import quote, unquote

from dagster_project.ingest.errors import LandingError, TransientLandingError
from dagster_project.ingest.s3.client import client
from dagster_project.ingest.s3.place import SCHEME
from dagster_project.ingest.s3.refusal import CHANGED, GONE, code_of, is_passing, worded

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK: Final = 1024 * 1024
TRIES: Final = 4
"""How often a broken stream is begun again where it broke, before it counts as failed."""
_VERSION = "?versionId="


class Reference(NamedTuple):
    """One version of an object in another bucket than the archive's."""

    bucket: str
    key: str
    version: str


def reference_to(bucket: str, key: str, version: str) -> str:
    """Write what the landing log keeps of bytes that stay where they are: a versioned bucket's object never changes."""
    return f"{SCHEME}{bucket}/{quote(key)}{_VERSION}{quote(version)}"


def reference_of(uri: str) -> Reference | None:
    """Read ``reference_to``; None for an object of the archive."""
    if not uri.startswith(SCHEME):
        return None
    path, _, version = uri[len(SCHEME) :].rpartition(_VERSION)
    bucket, _, key = path.partition("/")
    return Reference(bucket, unquote(key), unquote(version))


class BucketFile(io.RawIOBase):
    """The bytes of an object, as they are stored."""

    def __init__(self, bucket: str, key: str, version: str | None, etag: str | None = None) -> None:
        self._bucket = bucket
        self._key = key
        self._wanted: dict[str, Any] = {"Bucket": bucket, "Key": key}
        if version is not None:
            self._wanted["VersionId"] = version
        self._etag = etag
        self._where = f"s3://{bucket}/{key}"
        self._at = 0
        self._size: int | None = None
        self._body: Any = None
        self._spooled: BinaryIO | None = None
        self._begin()  # so that what isn't there is told now

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be sought in."""
        return True

    def tell(self) -> int:
        """Give the position."""
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer as far as one read goes; nothing at the end.

        Raises:
            LandingError: The object is gone or changed, or the bucket doesn't answer.
        """
        view = memoryview(buffer).cast("B")
        data = self._take(len(view)) if self._spooled is None else self._spooled.read(len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position; the object is read into a temporary file first.

        Raises:
            LandingError: There is no room for it.
        """
        file = self._spool()
        self._at = file.seek(offset, whence)
        return self._at

    def close(self) -> None:
        """Let go of the connection and the temporary file."""
        if self._body is not None:
            self._body.close()
            self._body = None
        if self._spooled is not None:
            self._spooled.close()
        super().close()

    def _spool(self) -> BinaryIO:
        if self._spooled is None:
            try:
                file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - lives as long as this reader
            except OSError as error:
                raise LandingError(f"{self._where}: no temporary file can be made ({error.strerror})") from error
            before, self._at = self._at, 0
            self._stop()
            try:
                while data := self._take(BLOCK):
                    file.write(data)
                    self._at += len(data)
                file.flush()
            except OSError as error:
                file.close()
                raise LandingError(
                    f"{self._where}: no room for it in {tempfile.gettempdir()} ({error.strerror}): formats that are "
                    "read out of order need as much as the file is large"
                ) from error
            self._stop()
            file.seek(before)
            self._at, self._spooled = before, file
        return self._spooled

    def _take(self, size: int) -> bytes:
        """Give the next bytes; where the stream breaks, begin it again there."""
        from botocore.exceptions import BotoCoreError, HTTPClientError
        from urllib3.exceptions import HTTPError

        tries = 0
        while True:
            try:
                if self._body is None:
                    self._begin()
                if self._body is None:
                    return b""
                data: bytes = self._body.read(size)
            except (BotoCoreError, HTTPClientError, HTTPError, OSError) as error:
                self._stop()
                tries += 1
                if tries >= TRIES:
                    raise TransientLandingError(worded(error, "GetObject", self._where)) from error
                continue
            if not data and size and self._size is not None and self._at < self._size:
                self._stop()
                tries += 1
                if tries >= TRIES:
                    raise TransientLandingError(f"{self._where}: the stream ends too early, each time")
                continue
            return data

    def _begin(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if self._size is not None and self._at >= self._size:
            return
        wanted = dict(self._wanted)
        if self._at:
            wanted["Range"] = f"bytes={self._at}-"
        if self._etag is not None:
            wanted["IfMatch"] = f'"{self._etag}"'
        try:
            said: Any = client("s3").get_object(**wanted)
        except (ClientError, BotoCoreError) as error:
            raise self._refused(error) from error
        self._body = said["Body"]
        # Whatever is read later belongs to the same object, or is refused.
        self._etag = str(said["ETag"]).strip('"')
        if self._size is None:
            self._size = self._at + int(said["ContentLength"])

    def _refused(self, error: Exception) -> LandingError:
        code = code_of(error)
        if code in GONE:
            return ObjectGoneError(
                f"{self._where}: the bytes are gone. Restore the object from a backup or an older version, or fetch "
                "the source again with --full-refresh"
            )
        if code in CHANGED:
            return ObjectReplacedError(f"{self._where}: it was overwritten while it was read")
        kind = TransientLandingError if is_passing(error) else LandingError
        return kind(worded(error, "GetObject" if "VersionId" not in self._wanted else "GetObjectVersion", self._where))

    def _stop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


class ObjectGoneError(LandingError):
    """The object isn't there."""


class ObjectReplacedError(TransientLandingError):
    """The object is another by now."""
