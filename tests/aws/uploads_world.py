"""What the tests of uploads share: a bucket, a card that reads it, the database, and the queue of its notifications."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dagster_project import warehouse
from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import FileSourceCard, SourceCard
from dagster_project.ingest.fetch.run import fetch_source
from dagster_project.ingest.load.report import LoadReport
from dagster_project.ingest.runtime import Progress, Runtime
from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.integration.references import Values


class Uploads:
    """A bucket of uploads and what reads it."""

    bucket = "uploads"

    def __init__(self, aws: Moto, settings: Settings, landing: str, *, versioned: bool = False) -> None:
        self.aws = aws
        self.settings = settings
        self.s3 = aws.client("s3")
        self.sqs = aws.client("sqs")
        self.seen: list[Progress] = []
        for name in (self.bucket, "landing", "output"):
            self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.region})
        if versioned:
            self.s3.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        self.runtime = Runtime(
            connect=lambda: warehouse.connect(settings, "loader"),
            landing=landing,
            resolver=Values(),
            progress=self.seen.append,
            run_id="run-1",
            code="test",
        )

    def queue(self, receives: int = 3, visibility: int = 1) -> str:
        """Make the queue of the bucket's notifications, with dead letters; give its URL."""
        dead = self.sqs.create_queue(QueueName="dead")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})
        attributes = {"RedrivePolicy": policy, "VisibilityTimeout": str(visibility)}
        url: str = self.sqs.create_queue(QueueName="uploads", Attributes=attributes)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        self.s3.put_bucket_notification_configuration(
            Bucket=self.bucket,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
            },
        )
        return url

    def put(self, key: str, body: str | bytes) -> str:
        """Upload; give the ETag."""
        data = body.encode() if isinstance(body, str) else body
        etag: str = self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)["ETag"]
        return etag.strip('"')

    def card(self, *streams: dict[str, Any], source: str = "src", **rest: Any) -> FileSourceCard:
        """Make a card; a stream without files reads those that begin with its name."""
        whole = [stream if "files" in stream else {"prefix": stream["name"], **stream} for stream in streams]
        return FileSourceCard.model_validate({"source": source, "path": "s3://uploads/in", "streams": whole, **rest})

    def run(self, card: SourceCard, **options: Any) -> LoadReport:
        """Fetch and load."""
        return pipeline.run_source(card, self.runtime, **options).load

    def arrivals(self, card: SourceCard) -> LoadReport:
        """Fetch what is announced, and load."""
        fetch_source(card, self.runtime, arrivals=True)
        return self.run(card, fetch=False)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database, as the loader."""
        with warehouse.connect(self.settings, "loader", autocommit=True) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def one(self, statement: str, *values: Any) -> Any:
        """Give the first value."""
        return self.rows(statement, *values)[0][0]

    def statuses(self) -> dict[str, int]:
        """Count the rows of the landing log by their state."""
        return dict(self.rows("select status, count(*) from bindery.landed group by 1"))


def landing_of(kind: str, folder: Path) -> str:
    """Give a landing root: of a bucket, or in a folder."""
    return "s3://landing/raw" if kind == "bucket" else str(folder / "landing")
