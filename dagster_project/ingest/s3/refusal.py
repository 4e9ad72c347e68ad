"""What a bucket's or a queue's refusal means: one sentence with the place, the action, and the missing right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_project.ingest.errors import IngestError

GONE = frozenset({"NoSuchKey", "NoSuchVersion", "404", "NotFound"})
CHANGED = frozenset({"PreconditionFailed", "412"})
CONFLICT = frozenset({"ConditionalRequestConflict", "409"})
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccessDeniedException"})
_IDENTITY = frozenset(
    {
        *("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "TokenRefreshRequired"),
        *("InvalidClientTokenId", "UnrecognizedClientException", "ExpiredTokenException", "RequestTimeTooSkewed"),
    }
)
_PASSING = frozenset(
    {
        *("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeTooSkewed", "500", "502"),
        *("503", "504", "Throttling", "ThrottlingException", "RequestThrottled", "OperationAborted"),
    }
)
RIGHTS = {
    "HeadObject": "s3:GetObject (and s3:ListBucket, without which a missing object looks like a refused one)",
    "GetObject": "s3:GetObject",
    "GetObjectVersion": "s3:GetObjectVersion",
    "PutObject": "s3:PutObject",
    "CopyObject": "s3:GetObject on the source and s3:PutObject on the target",
    "DeleteObject": "s3:DeleteObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:GetObject on the source and s3:PutObject on the target",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "DeleteMessage": "sqs:DeleteMessage",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "ChangeMessageVisibility": "sqs:ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "SendMessage": "sqs:SendMessage",
}
"""Operation -> the right that a role needs for it."""


def code_of(error: BaseException) -> str:
    """Give the code that the service answered with; empty where it never answered."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    code = str(response.get("Error", {}).get("Code", ""))
    return code or str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def is_passing(error: BaseException) -> bool:
    """Tell whether asking again may help."""
    code = code_of(error)
    if code:
        status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in _PASSING or int(status or 0) >= 500
    return type(error).__name__ not in {"NoCredentialsError", "NoRegionError", "PartialCredentialsError"}


def worded(error: BaseException, operation: str, where: str) -> str:
    """Say what was refused, why, and what to do.

    Args:
        error: What botocore raised.
        operation: AWS's name of what was asked.
        where: The object, bucket or queue.
    """
    code, name = code_of(error), type(error).__name__
    right = RIGHTS.get(operation, operation)
    if code in _DENIED:
        return f"{where}: access denied. {operation} needs the right {right} in the role that this runs as"
    if code in GONE:
        return f"{where}: isn't there"
    if code == "NoSuchBucket":
        return f"{where}: there is no such bucket (in this account and region, or at AWS_ENDPOINT_URL)"
    if code in {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}:
        return f"{where}: there is no such queue (in this account and region, or at AWS_ENDPOINT_URL)"
    if code in {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}:
        return f"{where}: is in another region. Set AWS_REGION to it"
    if code == "InvalidObjectState":
        return f"{where}: is in an archive storage class and has to be restored before it can be read"
    if code in _IDENTITY:
        return f"{where}: AWS doesn't accept who asks ({code}). Log in again, or give the task a role"
    if name in {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}:
        return f"{where}: nobody says who asks. Give the task a role, or set AWS_PROFILE"
    if name == "NoRegionError":
        return f"{where}: which region? Set AWS_REGION"
    if name in {"EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError"}:
        return f"{where}: doesn't answer ({error}). Look at AWS_ENDPOINT_URL, the route and the security group"
    said = " ".join(str(error).split())
    return f"{where}: {operation} failed ({said or name})"


@contextmanager
def told(
    operation: str, where: str, permanent: type[IngestError], passing: type[IngestError] | None = None
) -> Iterator[None]:
    """Turn what botocore raises into an error of ours.

    Args:
        operation: AWS's name of what is asked.
        where: The object, bucket or queue, for the message.
        permanent: Raised where asking again won't help.
        passing: Raised where it may; without it, ``permanent``.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except (BotoCoreError, ClientError, HTTPClientError) as error:
        kind = passing if passing is not None and is_passing(error) else permanent
        raise kind(worded(error, operation, where)) from error
