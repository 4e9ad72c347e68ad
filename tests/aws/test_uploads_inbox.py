"""Notifications, from the queue to rows: each upload once, whatever is repeated, shuffled, late or lost."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dagster_project.ingest.inbox import log
from dagster_project.ingest.inbox.consume import Consumed, Route, consume, routes_of
from dagster_project.ingest.inbox.queue import depth
from dagster_project.ingest.inbox.reconcile import reconcile
from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.aws.uploads_world import Uploads

T = {"name": "t", "columns": {"a": {"type": "bigint"}}, "add": {"path": "file_path"}}


class Inbox(Uploads):
    """Uploads with a queue, and a consumer that takes all of it."""

    def __init__(self, aws: Moto, settings: Settings, *, versioned: bool = False) -> None:
        super().__init__(aws, settings, "s3://landing/raw", versioned=versioned)
        self.url = self.queue()
        self.src = self.card(T)

    @property
    def routes(self) -> list[Route]:
        return routes_of([self.src], self.runtime)

    def consume(self, hidden: int = 1) -> Consumed:
        return consume(self.routes, self.runtime, self.url, seconds=10, wait=1, hidden=hidden)

    def send(self, *bodies: Any) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def drain(self) -> list[str]:
        """Take everything out of the queue, as nobody should."""
        bodies = []
        while found := self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages", []):
            for each in found:
                bodies.append(each["Body"])
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=each["ReceiptHandle"])
        return bodies

    def loaded(self) -> list[tuple[int, str]]:
        return [(a, path) for a, path in self.rows("select a, path from raw.src__t order by _load_id, path, a")]


def event(key: str, etag: str, sequencer: str, kind: str = "ObjectCreated:Put", **more: Any) -> dict[str, Any]:
    from urllib.parse import quote_plus

    found = {"key": quote_plus(key), "size": 4, "eTag": etag, "sequencer": sequencer, **more}
    return {
        "eventSource": "aws:s3",
        "eventName": kind,
        "eventTime": "2026-11-21T10:00:00.000Z",
        "s3": {"bucket": {"name": "uploads"}, "object": found},
    }


ONE = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}


@pytest.fixture
def inbox(aws: Moto, settings: Settings) -> Inbox:
    return Inbox(aws, settings)


def test_an_upload_is_announced_then_landed_then_loaded(inbox: Inbox) -> None:
    inbox.put("in/t é+1.csv", "a\n1\n")
    done = inbox.consume()
    assert (done.announced, done.poison) == (1, 0)
    assert depth(inbox.url) == {"waiting": 0, "worked_on": 0, "dead": 0}
    assert inbox.statuses() == {"announced": 1}
    inbox.arrivals(inbox.src)
    assert inbox.loaded() == [(1, "t é+1.csv")]
    assert inbox.statuses() == {"landed": 1}


def test_test_events_are_no_poison_and_folders_no_uploads(inbox: Inbox) -> None:
    inbox.put("in/t/", "")
    inbox.send({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"})
    done = inbox.consume()
    assert done.messages >= 3  # one of them the bucket's own
    assert (done.announced, done.poison) == (0, 0)
    assert depth(inbox.url)["waiting"] == 0


def test_what_no_card_wants_is_said_and_deleted(inbox: Inbox) -> None:
    inbox.put("other/x.csv", "a\n1\n")
    inbox.put("in/u.csv", "a\n1\n")
    inbox.put("in/t/../x.csv", "a\n1\n")
    done = inbox.consume()
    assert (done.announced, done.elsewhere) == (0, 3)
    assert any("no card wants s3://uploads/other/x.csv" in note for note in done.notes)
    assert depth(inbox.url)["waiting"] == 0


def test_several_records_and_eventbridge_and_sns_are_read(inbox: Inbox) -> None:
    etags = [inbox.put(f"in/t{n}.csv", f"a\n{n}\n") for n in range(4)]
    inbox.drain()
    inbox.send(
        {"Records": [event(f"in/t{n}.csv", etags[n], f"00{n}") for n in (0, 1)]},
        {
            "version": "0",
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": "2026-11-21T10:00:00Z",
            "detail": {
                "bucket": {"name": "uploads"},
                "object": {"key": "in/t2.csv", "size": 4, "etag": etags[2], "sequencer": "02"},
            },
        },
        {"TopicArn": "arn:x", "Message": json.dumps({"Records": [event("in/t3.csv", etags[3], "03")]})},
    )
    assert inbox.consume().announced == 4
    inbox.arrivals(inbox.src)
    assert [a for a, _ in inbox.loaded()] == [0, 1, 2, 3]


def test_duplicates_shuffles_and_late_replays_change_nothing(inbox: Inbox) -> None:
    for number in range(20):
        inbox.put(f"in/t{number:02}.csv", f"a\n{number}\n")
    bodies = inbox.drain()
    shuffled = bodies * 3
    random.Random(7).shuffle(shuffled)
    inbox.send(*shuffled)
    assert inbox.consume().announced == 20
    inbox.arrivals(inbox.src)
    assert [a for a, _ in inbox.loaded()] == list(range(20))
    inbox.send(*bodies)
    assert inbox.consume().announced == 0
    assert inbox.statuses() == {"landed": 20}


def test_an_old_report_after_a_new_one_changes_nothing(inbox: Inbox) -> None:
    first = inbox.put("in/t.csv", "a\n1\n")
    second = inbox.put("in/t.csv", "a\n2\n")
    inbox.drain()
    inbox.send({"Records": [event("in/t.csv", second, "00559C")]})
    assert inbox.consume().announced == 1
    inbox.send({"Records": [event("in/t.csv", first, "00559B")]}, {"Records": [event("in/t.csv", first, "0055")]})
    done = inbox.consume()
    assert (done.announced, done.known) == (0, 2)
    inbox.arrivals(inbox.src)
    assert inbox.loaded() == [(2, "t.csv")]


def test_a_re_upload_is_an_update_and_a_b_a_three(inbox: Inbox) -> None:
    inbox.src = inbox.card({**T, "write": "merge", "primary_key": "path"})
    for number in (1, 2, 1):
        inbox.put("in/t.csv", f"a\n{number}\n")
        assert inbox.consume().announced == 1
        report = inbox.arrivals(inbox.src)
        assert report.streams["t"].inserted + report.streams["t"].updated == 1
        assert inbox.rows("select a from raw.src__t") == [(number,)]
    inbox.put("in/t.csv", "a\n1\n")
    assert inbox.consume().announced == 0


def test_overwritten_before_it_was_read_the_last_bytes_count(inbox: Inbox) -> None:
    for number in (1, 2, 3):
        inbox.put("in/t.csv", f"a\n{number}\n")
    assert inbox.consume().announced == 3
    inbox.arrivals(inbox.src)
    assert inbox.loaded() == [(3, "t.csv")]
    assert inbox.statuses() == {"landed": 1, "passed": 2}


def test_each_version_of_a_versioned_bucket_is_loaded(aws: Moto, settings: Settings) -> None:
    inbox = Inbox(aws, settings, versioned=True)
    for number, text in enumerate((1, 2, 1, 1)):
        inbox.put("in/t.csv", f"a\n{text}\n")
        now = inbox.s3.head_object(Bucket="uploads", Key="in/t.csv")
        inbox.drain()
        inbox.send({"Records": [event("in/t.csv", now["ETag"], f"0{number}", versionId=now["VersionId"])]})
        inbox.consume()
    assert inbox.statuses() == {"announced": 3}
    inbox.arrivals(inbox.src)
    assert inbox.rows("select a from raw.src__t order by _load_id, ctid") == [(1,), (2,), (1,)]


def test_an_upload_that_is_removed_before_it_is_read_is_nobodys_fault(inbox: Inbox) -> None:
    inbox.put("in/t.csv", "a\n1\n")
    inbox.s3.delete_object(Bucket="uploads", Key="in/t.csv")
    inbox.put("in/t2.csv", "a\n2\n")
    inbox.consume()
    inbox.arrivals(inbox.src)
    assert inbox.loaded() == [(2, "t2.csv")]
    assert inbox.statuses() == {"landed": 1, "failed": 1}
    inbox.put("in/t.csv", "a\n1\n")
    inbox.consume()
    inbox.arrivals(inbox.src)
    assert sorted(inbox.loaded()) == [(1, "t.csv"), (2, "t2.csv")]


POISON = [
    "not json",
    "[1, 2]",
    '{"Records": [{"eventSource": "aws:sns"}]}',
    '{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}]}',
    json.dumps({"Records": [{**ONE, "s3": {"bucket": {"name": "uploads"}, "object": {"key": "%FF%FE"}}}]}),
    '{"source": "aws.s3", "detail-type": "Object Created"}',
    '{"hello": "world"}',
]


def test_poison_goes_to_the_dead_letters_and_is_reported(inbox: Inbox) -> None:
    inbox.drain()
    inbox.put("in/t.csv", "a\n1\n")
    inbox.send(*POISON)
    done = inbox.consume()
    assert done.announced == 1
    deadline = time.monotonic() + 20
    while depth(inbox.url)["dead"] != len(POISON) and time.monotonic() < deadline:
        time.sleep(0.3)
        inbox.consume()
    assert depth(inbox.url) == {"waiting": 0, "worked_on": 0, "dead": len(POISON)}
    found = inbox.rows("select body, receives >= 3 from bindery.inbox_poison")
    assert sorted(found) == sorted((body, True) for body in POISON)


def test_messages_stay_hidden_while_they_are_worked_on(inbox: Inbox) -> None:
    inbox.put("in/t.csv", "a\n1\n")
    seen: list[int] = []

    def look(stage: str) -> None:
        if stage == "announced":
            time.sleep(2.5)  # longer than they would stay hidden by themselves
            seen.append(len(inbox.sqs.receive_message(QueueUrl=inbox.url).get("Messages", [])))

    inbox.runtime.checkpoint = look
    assert inbox.consume(hidden=1).messages >= 1
    assert seen[0] == 0


DOOMED = """
import os, signal, sys
from dagster_project import warehouse
from dagster_project.ingest.cards import FileSourceCard
from dagster_project.ingest.inbox.consume import consume, routes_of
from dagster_project.ingest.runtime import Runtime
from dagster_project.settings import get_settings

def die(stage):
    if stage == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

settings = get_settings()
runtime = Runtime(connect=lambda: warehouse.connect(settings, "loader"), landing="s3://landing/raw", resolver=None)
runtime.checkpoint = die
card = FileSourceCard.model_validate_json(sys.argv[1])
consume(routes_of([card], runtime), runtime, sys.argv[2], seconds=10, wait=1, hidden=1)
"""


@pytest.mark.parametrize(("stage", "announced"), [("received", 0), ("announced", 1), ("deleted", 1)])
def test_a_consumer_killed_anywhere_loses_nothing(inbox: Inbox, stage: str, announced: int) -> None:
    inbox.drain()
    inbox.put("in/t.csv", "a\n1\n")
    words = [sys.executable, "-c", DOOMED, inbox.src.model_dump_json(), inbox.url, stage]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert inbox.statuses() == ({"announced": 1} if announced else {})
    deadline = time.monotonic() + 10
    while sum(int(depth(inbox.url)[state] or 0) for state in ("waiting", "worked_on")) and time.monotonic() < deadline:
        time.sleep(0.2)
        inbox.consume()
    assert inbox.statuses() == {"announced": 1}
    with inbox.runtime.connect() as connection:
        waiting = log.waiting(connection, "src")
    assert waiting is not None
    inbox.arrivals(inbox.src)
    assert inbox.loaded() == [(1, "t.csv")]


def test_a_list_finds_what_notifications_lost_and_late_ones_change_nothing(inbox: Inbox) -> None:
    for number in range(5):
        inbox.put(f"in/t{number}.csv", f"a\n{number}\n")
    lost = inbox.drain()
    assert reconcile(inbox.routes[0], inbox.runtime) == (5, None)
    assert reconcile(inbox.routes[0], inbox.runtime) == (0, None)
    inbox.arrivals(inbox.src)
    inbox.send(*lost)
    assert inbox.consume().announced == 0
    assert [a for a, _ in inbox.loaded()] == list(range(5))


def test_a_long_list_goes_on_where_it_stopped(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.ingest.inbox import reconcile as module

    monkeypatch.setattr(module, "PAGE", 2)
    for number in range(5):
        inbox.put(f"in/t{number}.csv", f"a\n{number}\n")
    after: tuple[str, str] | None = None
    found = []
    for _ in range(3):
        count, after = reconcile(inbox.routes[0], inbox.runtime, seconds=0, after=after)
        found.append((count, after))
    assert found == [(2, ("t", "in/t1.csv")), (2, ("t", "in/t3.csv")), (1, None)]


def test_what_was_announced_and_never_requested_gets_another_key(inbox: Inbox, tmp_path: Path) -> None:
    inbox.put("in/t.csv", "a\n1\n")
    inbox.consume()
    keys = []
    with inbox.runtime.connect() as connection:
        connection.autocommit = True
        for _ in range(3):
            found = log.waiting(connection, "src")
            assert found is not None
            keys.append(found.run_key)
            connection.execute("update bindery.landed set observed_at = observed_at - interval '1 hour'")
            log.try_again(connection, "src", 900)
        connection.execute("update bindery.landed set attempt = %s", [log.ATTEMPTS])
        assert log.try_again(connection, "src", 900) == 0
    assert keys[0].endswith(":1")
    assert len(set(keys)) == 3


def test_a_fetch_killed_before_it_sealed_is_asked_for_again(inbox: Inbox) -> None:
    for number in range(3):
        inbox.put(f"in/t{number}.csv", f"a\n{number}\n")
    inbox.consume()

    class Killed(BaseException):
        pass

    landed = []

    def die(stage: str) -> None:
        landed.extend([stage] if stage == "landed" else [])
        if len(landed) == 3:
            raise Killed

    inbox.runtime.checkpoint = die
    with pytest.raises(Killed):
        inbox.arrivals(inbox.src)
    inbox.runtime.checkpoint = lambda _: None
    assert inbox.statuses() == {"landed": 3}
    assert inbox.one("select status from bindery.batches") == "open"
    with inbox.runtime.connect() as connection:
        waiting = log.waiting(connection, "src")
    assert waiting is not None
    assert waiting.objects == 3
    inbox.arrivals(inbox.src)
    assert [a for a, _ in inbox.loaded()] == [0, 1, 2]
    with inbox.runtime.connect() as connection:
        assert log.waiting(connection, "src") is None
