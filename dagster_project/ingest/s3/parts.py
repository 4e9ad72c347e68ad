"""Writing an object whose size isn't known before its end: in parts, with memory for one part."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Self

from dagster_project.ingest.s3.client import client

PART: Final = 8 * 1024 * 1024
"""Bytes of the first thousand parts; each further thousand has parts larger by as much. 10,000 parts are 430 GiB."""


class Parts:
    """An object that is written in parts. Where all of it fits into one, nothing is sent: ``held`` gives it."""

    def __init__(self, bucket: str, key: str, told: Callable[[str, str], AbstractContextManager[None]]) -> None:
        self.bucket = bucket
        self.key = key
        self.size = 0
        """Bytes written so far."""
        self._told = told
        self._buffer = bytearray()
        self._upload: str | None = None
        self._done: list[Any] = []

    @property
    def empty(self) -> bool:
        """Whether nothing was sent yet."""
        return self._upload is None

    def held(self) -> bytes:
        """Give what was written and not sent."""
        return bytes(self._buffer)

    def write(self, data: bytes) -> None:
        """Take bytes; send a part when there are enough."""
        self._buffer += data
        self.size += len(data)
        limit = PART * (1 + len(self._done) // 1000)
        # More than a part must be there: what fits into one is written in one request, under its own name.
        while len(self._buffer) > limit:
            self._send(bytes(self._buffer[:limit]))
            del self._buffer[:limit]

    def finish(self) -> None:
        """Send the rest, and make it one object."""
        if self._buffer:
            self._send(self.held())
            self._buffer.clear()
        with self._told("CompleteMultipartUpload", self.key):
            client("s3").complete_multipart_upload(
                Bucket=self.bucket,
                Key=self.key,
                UploadId=self._upload or "",
                MultipartUpload={"Parts": self._done},
            )
        self._upload = None

    def _send(self, body: bytes) -> None:
        if self._upload is None:
            with self._told("CreateMultipartUpload", self.key):
                said = client("s3").create_multipart_upload(
                    Bucket=self.bucket, Key=self.key, ChecksumAlgorithm="SHA256"
                )
            self._upload = said["UploadId"]
        number = len(self._done) + 1
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        with self._told("UploadPart", self.key):
            part = client("s3").upload_part(
                Bucket=self.bucket,
                Key=self.key,
                UploadId=self._upload,
                PartNumber=number,
                Body=body,
                ChecksumSHA256=checksum,
            )
        self._done.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": checksum})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._upload is not None:
            from botocore.exceptions import BotoCoreError, ClientError

            # The bucket's lifecycle removes what can't be removed now.
            with contextlib.suppress(BotoCoreError, ClientError):
                client("s3").abort_multipart_upload(Bucket=self.bucket, Key=self.key, UploadId=self._upload)
