"""The queue of notifications: receive, keep hidden while they are worked on, delete. What they say is ``events``'."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from dagster_project.ingest.errors import SourceError, TransientSourceError
from dagster_project.ingest.s3.client import client
from dagster_project.ingest.s3.refusal import told

AT_ONCE: Final = 10
"""Messages in one answer: SQS gives no more."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, hidden from other consumers for a while."""

    message_id: str
    receipt: str
    body: str
    receives: int
    """How often it was handed out."""


class Queue:
    """One queue of SQS, or of what speaks like it."""

    def __init__(self, url: str, *, hidden: int = 60) -> None:
        """Name the queue.

        Args:
            url: Its URL.
            hidden: Seconds for which a received message is nobody else's; renewed while it is worked on.
        """
        self.url = url
        self.hidden = hidden

    def receive(self, wait: float) -> list[Message]:
        """Give up to ten messages, waiting for the first one.

        Raises:
            SourceError: The queue refuses.
        """
        with self._told("ReceiveMessage"):
            said: Any = client("sqs").receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=AT_ONCE,
                WaitTimeSeconds=max(0, min(20, int(wait))),
                VisibilityTimeout=self.hidden,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return [
            Message(
                each["MessageId"],
                each["ReceiptHandle"],
                each["Body"],
                int(each.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for each in said.get("Messages", [])
        ]

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages whose work is done. One that can't be is handed out again, which changes nothing.

        Raises:
            SourceError: The queue refuses.
        """
        for start in range(0, len(messages), AT_ONCE):
            some = messages[start : start + AT_ONCE]
            with self._told("DeleteMessageBatch"):
                client("sqs").delete_message_batch(
                    QueueUrl=self.url,
                    Entries=[{"Id": str(number), "ReceiptHandle": each.receipt} for number, each in enumerate(some)],
                )

    @contextmanager
    def held(self, messages: Sequence[Message]) -> Iterator[None]:
        """Keep messages hidden for as long as this lasts, however long that is."""
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(list(messages), over), name="heartbeat", daemon=True)
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()

    def _beat(self, messages: list[Message], over: threading.Event) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        while not over.wait(self.hidden / 3):
            try:
                client("sqs").change_message_visibility_batch(
                    QueueUrl=self.url,
                    Entries=[
                        {"Id": str(number), "ReceiptHandle": each.receipt, "VisibilityTimeout": self.hidden}
                        for number, each in enumerate(messages)
                    ],
                )
            except (BotoCoreError, ClientError):
                # Somebody else gets them too, which is only work done twice.
                continue

    def _told(self, operation: str) -> Any:
        return told(operation, self.url, SourceError, TransientSourceError)


def depth(url: str) -> dict[str, int | str | None]:
    """Tell how many messages wait, are worked on, and are dead.

    Raises:
        SourceError: The queue refuses.
    """
    said = attributes(url)
    dead = dead_letters(url, said)
    return {
        "waiting": int(said.get("ApproximateNumberOfMessages", 0)),
        "worked_on": int(said.get("ApproximateNumberOfMessagesNotVisible", 0)),
        "dead": int(attributes(dead).get("ApproximateNumberOfMessages", 0)) if dead else None,
    }


def attributes(url: str) -> dict[str, str]:
    """Give a queue's attributes.

    Raises:
        SourceError: The queue refuses.
    """
    with told("GetQueueAttributes", url, SourceError, TransientSourceError):
        said: Any = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return dict(said.get("Attributes", {}))


def dead_letters(url: str, said: dict[str, str] | None = None) -> str | None:
    """Give the URL of a queue's dead letters, None where it has none.

    Raises:
        SourceError: A queue refuses.
    """
    import json

    policy = (said or attributes(url)).get("RedrivePolicy")
    if not policy:
        return None
    name = str(json.loads(policy)["deadLetterTargetArn"]).rpartition(":")[2]
    # The sibling of this queue: asking for its URL would need another right.
    return url.rpartition("/")[0] + "/" + name


def redrive(dead: str, url: str) -> int:
    """Move dead letters back, each sent before it is deleted; tell how many.

    A message that a crash leaves in both queues changes nothing the second time.

    Raises:
        SourceError: A queue refuses.
    """
    source, moved = Queue(dead), 0
    while messages := source.receive(0):
        for message in messages:
            with told("SendMessage", url, SourceError, TransientSourceError):
                client("sqs").send_message(QueueUrl=url, MessageBody=message.body)
        source.delete(messages)
        moved += len(messages)
    return moved
