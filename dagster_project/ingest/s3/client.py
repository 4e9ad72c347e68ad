"""Clients of AWS's services, made once per process: making one costs more than most of its calls.

Region, endpoint (``AWS_ENDPOINT_URL``) and role come from boto3's own chain. Errors are for ``refusal`` to word.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, overload

from dagster_project.ingest.errors import CardError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

CONNECTIONS = 32
"""Transfers at once that share a client."""
_lock = threading.Lock()
_made: dict[tuple[str, bool], Any] = {}


@overload
def client(service: Literal["s3"], *, retries: bool = True) -> S3Client: ...
@overload
def client(service: Literal["sqs"], *, retries: bool = True) -> SQSClient: ...
def client(service: str, *, retries: bool = True) -> Any:
    """Give the client of a service; it is safe for threads.

    Args:
        service: AWS's name of it.
        retries: Whether a call that failed in passing is made again; not so for calls that mustn't happen twice.
    """
    with _lock:
        if (service, retries) not in _made:
            try:
                import boto3
                from botocore.config import Config
            except ImportError:
                raise CardError(
                    "buckets and queues need boto3, which this installation doesn't have: install the group `aws`"
                ) from None

            session: Any = boto3.session.Session()
            _made[service, retries] = session.client(
                service,
                config=Config(
                    connect_timeout=10,
                    read_timeout=60,
                    max_pool_connections=CONNECTIONS,
                    retries={"mode": "standard", "total_max_attempts": 5 if retries else 1},
                    user_agent_extra="bindery",
                    # What is read is proven against its sha256 in any case.
                    response_checksum_validation="when_required",
                ),
            )
        return _made[service, retries]


def forget() -> None:
    """Make new clients from now on: after the environment changed, and in a child process."""
    with _lock:
        _made.clear()
