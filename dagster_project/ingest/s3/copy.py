"""Looking at an object, and letting S3 copy one: in one request, or in parts where it is larger than one may be."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from dagster_project.ingest.s3.client import client
from dagster_project.ingest.s3.refusal import CHANGED, GONE, code_of

COPY_LIMIT: Final = 5 * 1024**3
"""Largest object that one request copies."""
COPY_PART: Final = 1024**3


class ObjectChangedError(Exception):
    """An object isn't any more what it was when it was looked at."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a bucket says of an object."""

    size: int
    etag: str
    """Without quotes."""
    modified: datetime
    age: float
    """Seconds, by the bucket's own clock."""
    version: str | None = None
    """None where the bucket keeps none."""
    metadata: dict[str, str] = field(default_factory=dict)
    sha256: str | None = None
    """Of the whole object, where whoever put it had S3 keep that."""


def head(bucket: str, key: str, version: str | None = None) -> Head | None:
    """Look at an object, or a version of it; None where it isn't there.

    Raises:
        ClientError: The bucket refused.
    """
    from botocore.exceptions import ClientError

    wanted: dict[str, Any] = {"Bucket": bucket, "Key": key, "ChecksumMode": "ENABLED"}
    if version is not None:
        wanted["VersionId"] = version
    try:
        said: Any = client("s3").head_object(**wanted)
    except ClientError as error:
        if code_of(error) in GONE or code_of(error) == "405":  # a marker of deletion
            return None
        raise
    return Head(
        size=int(said["ContentLength"]),
        etag=str(said["ETag"]).strip('"'),
        modified=said["LastModified"],
        age=(_now(said) - said["LastModified"]).total_seconds(),
        version=_version(said.get("VersionId")),
        metadata=dict(said.get("Metadata", {})),
        sha256=_whole(said.get("ChecksumSHA256")),
    )


def copy(
    bucket: str, key: str, size: int, to_bucket: str, to_key: str, metadata: dict[str, str], **conditions: Any
) -> dict[str, Any]:
    """Have S3 copy an object.

    Args:
        bucket: Where from.
        key: Which object.
        size: Its bytes, which decide in how many requests.
        to_bucket: Where to.
        to_key: Under which name.
        metadata: Of the copy.
        conditions: Further words of the request, such as ``CopySourceIfMatch``.

    Raises:
        ClientError: The bucket refused.
    """
    source: Any = {"Bucket": bucket, "Key": key}
    if size <= COPY_LIMIT:
        done: Any = client("s3").copy_object(
            Bucket=to_bucket,
            Key=to_key,
            CopySource=source,
            Metadata=metadata,
            MetadataDirective="REPLACE",
            ChecksumAlgorithm="SHA256",
            **conditions,
        )
        return dict(done.get("CopyObjectResult", {}))
    upload = client("s3").create_multipart_upload(Bucket=to_bucket, Key=to_key, Metadata=metadata)["UploadId"]
    try:
        parts: list[Any] = []
        for number, start in enumerate(range(0, size, COPY_PART), 1):
            end = min(start + COPY_PART, size) - 1
            part: Any = client("s3").upload_part_copy(
                Bucket=to_bucket,
                Key=to_key,
                UploadId=upload,
                PartNumber=number,
                CopySource=source,
                CopySourceRange=f"bytes={start}-{end}",
            )
            parts.append({"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]})
        client("s3").complete_multipart_upload(
            Bucket=to_bucket, Key=to_key, UploadId=upload, MultipartUpload={"Parts": parts}
        )
    except BaseException:
        client("s3").abort_multipart_upload(Bucket=to_bucket, Key=to_key, UploadId=upload)
        raise
    return {}


def copy_hashed(bucket: str, key: str, found: Head, to_bucket: str, to_key: str) -> str | None:
    """Have S3 copy an object and hash it on the way; None where it doesn't tell the hash of the whole.

    Raises:
        ObjectChangedError: It isn't what was found.
        ClientError: A bucket refused.
    """
    from botocore.exceptions import ClientError

    if found.size > COPY_LIMIT:
        return None  # in parts S3 hashes parts
    try:
        done = copy(
            bucket,
            key,
            found.size,
            to_bucket,
            to_key,
            {},
            CopySourceIfMatch=f'"{found.etag}"',
        )
    except ClientError as error:
        if code_of(error) in GONE | CHANGED:
            raise ObjectChangedError(f"s3://{bucket}/{key}") from error
        raise
    hexdigest = _whole(done.get("ChecksumSHA256"))
    if hexdigest is None:
        client("s3").delete_object(Bucket=to_bucket, Key=to_key)
    return hexdigest


def leftovers(bucket: str, prefix: str, older: float) -> Iterator[str]:
    """Give the keys below a prefix that nobody wrote to for so many seconds."""
    for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        now = _now(page)
        for each in page.get("Contents", []):
            if (now - each["LastModified"]).total_seconds() > older:
                yield each["Key"]


def _now(said: Any) -> datetime:
    """Give the time that the service answered at, by its own clock."""
    text = said.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(text) if text else datetime.now(UTC)


def _version(text: str | None) -> str | None:
    return None if text in {None, "", "null"} else text


def _whole(checksum: str | None) -> str | None:
    """Read S3's SHA-256 of a whole object; one made of parts' hashes (``...-3``) is none."""
    if not checksum or "-" in checksum:
        return None
    raw = base64.b64decode(checksum)
    return raw.hex() if len(raw) == 32 else None
