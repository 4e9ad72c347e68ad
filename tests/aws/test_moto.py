"""The server that stands in for AWS: what tests build on is there, and each begins with an empty account."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.aws.moto import Moto


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_begins_with_an_empty_account(aws: Moto, turn: int) -> None:
    storage = aws.client("s3")
    assert storage.list_buckets()["Buckets"] == []
    storage.create_bucket(Bucket=f"turn-{turn}", CreateBucketConfiguration={"LocationConstraint": aws.region})
    assert [bucket["Name"] for bucket in storage.list_buckets()["Buckets"]] == [f"turn-{turn}"]


def test_child_processes_find_it_by_themselves(aws: Moto) -> None:
    aws.client("sqs").create_queue(QueueName="here")
    code = "import boto3; print(boto3.client('sqs').list_queues()['QueueUrls'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert aws.endpoint in done.stdout
    assert "/here" in done.stdout
