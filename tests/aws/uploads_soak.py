"""Many uploads while consumer, worker and Postgres are killed in turn, and the proof of what came of them.

Notifications are made here, so that they can be repeated, shuffled, late, and lost.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from dagster_project import embedded, warehouse
from dagster_project.ingest.inbox.queue import depth
from dagster_project.sample.xlsx import Workbook
from dagster_project.settings import Settings, get_settings
from tests.aws.moto import Moto
from tests.aws.uploads_world import Uploads
from tests.integration.embedded_places import kill_server, place

Row = tuple[int, int, int]
FORMATS = ("csv", "tsv", "csv.gz", "jsonl", "jsonl.zst", "jsonl.bz2", "json", "parquet", "xlsx", "zip")
BAD = "no number"


def body_of(kind: str, rows: Sequence[tuple[Any, ...]], folder: Path) -> bytes:
    """Write rows of (user_id, book_id, rating) in a format."""
    names = ("user_id", "book_id", "rating")
    plain = kind.split(".", maxsplit=1)[0]
    if plain == "parquet":
        sink = io.BytesIO()
        columns = list(zip(*rows, strict=True))
        pq.write_table(pa.table({name: [str(v) for v in c] for name, c in zip(names, columns, strict=True)}), sink)
        return sink.getvalue()
    if plain == "xlsx":
        path = folder / "book.xlsx"
        with Workbook(path) as book:
            book.write_row(names)
            for row in rows:
                book.write_row(row)
        return path.read_bytes()
    if plain == "zip":
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            half = len(rows) // 2
            archive.writestr("a.csv", body_of("csv", rows[:half], folder))
            archive.writestr("b.jsonl", body_of("jsonl", rows[half:], folder))
        return sink.getvalue()
    if plain in {"csv", "tsv"}:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t" if plain == "tsv" else ",", lineterminator="\n")
        writer.writerows([names, *rows])
        data = text.getvalue().encode()
    else:
        records = [dict(zip(names, row, strict=True)) for row in rows]
        lines = "".join(json.dumps(each) + "\n" for each in records)
        data = lines.encode() if plain == "jsonl" else json.dumps(records).encode()
    if kind.endswith(".gz"):
        return gzip.compress(data)
    if kind.endswith(".zst"):
        return zstandard.ZstdCompressor().compress(data)
    return bz2.compress(data) if kind.endswith(".bz2") else data


@dataclass
class Soak:
    """What is uploaded, and what has to come of it."""

    world: Uploads
    server: Settings
    folder: Path
    log: Path
    url: str = ""
    good: set[tuple[str, int, int, int]] = field(default_factory=set)
    bad: int = 0
    poison: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    kills: dict[str, int] = field(default_factory=dict)

    def upload(self, rows: Sequence[Row], files: int, rng: random.Random) -> list[str]:
        """Put files of all formats; give the notifications, as many as there would be."""
        bodies = []
        for number in range(files):
            kind = FORMATS[number % len(FORMATS)]
            mine: list[tuple[Any, ...]] = list(rows[number::files])
            key = f"in/ratings/{number % 7}/é {number:04}.{kind}"
            self.good |= {(key.removeprefix("in/"), *row) for row in mine}
            if number % 10 == 3:
                mine.insert(rng.randrange(len(mine)), (BAD, number, 1))
                self.bad += 1
            etag = self.world.put(key, body_of(kind, mine, self.folder))
            bodies.append(self.event(key, etag, f"{number:016X}"))
        return bodies

    def event(self, key: str, etag: str, sequencer: str) -> str:
        from urllib.parse import quote_plus

        facts = {"key": quote_plus(key), "size": 1, "eTag": etag, "sequencer": sequencer}
        record = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-11-21T10:00:00.000Z",
            "s3": {"bucket": {"name": "uploads"}, "object": facts},
        }
        return json.dumps({"Records": [record]})

    def start(self, what: str, card: str) -> None:
        with self.log.open("ab") as output:
            self.processes[what] = subprocess.Popen(
                [sys.executable, "-m", "tests.aws.uploads_process", what, card, self.url],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
            )

    def kill(self, what: str, card: str) -> None:
        """Kill -9 something and start it again."""
        if what == "postgres":
            kill_server(embedded.status(self.server).pid or 0)
            embedded.start(self.server, durable=False)
        else:
            process = self.processes[what]
            assert process.poll() is None, f"{what} ended by itself: {self.log.read_text()[-3000:]}"
            process.kill()
            process.wait()
            self.start(what, card)
        self.kills[what] = self.kills.get(what, 0) + 1

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def count(self, statement: str) -> int:
        with contextlib.suppress(Exception):
            return int(self.world.one(statement))
        return -1


@contextlib.contextmanager
def soak(aws: Moto, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Soak]:
    """A bucket, a queue, and a Postgres of its own that may be killed."""
    with place() as data_dir:
        monkeypatch.setenv("BINDERY_DATA_DIR", str(data_dir))
        server = get_settings()
        embedded.start(server, durable=False)
        warehouse.ensure_ready(server)
        world = Uploads(aws, server, "s3://landing/raw")
        found = Soak(world, server, folder, folder / "processes.log")
        found.url = world.queue(receives=8, visibility=1)
        world.s3.put_bucket_notification_configuration(Bucket="uploads", NotificationConfiguration={})
        while messages := world.sqs.receive_message(QueueUrl=found.url).get("Messages"):
            for message in messages:
                world.sqs.delete_message(QueueUrl=found.url, ReceiptHandle=message["ReceiptHandle"])
        try:
            yield found
        finally:
            found.stop()


def run(found: Soak, rows: Sequence[Row], files: int, *, seconds: float, every: float, rounds: int) -> None:
    """Upload everything, kill everything in turn so many rounds while it is worked on, then prove what came of it."""
    rng = random.Random(4)
    world = found.world
    card = world.card(
        {
            "name": "ratings",
            "prefix": "ratings/",
            "columns": {name: {"type": "bigint", "required": True} for name in ("user_id", "book_id", "rating")},
            "add": {"path": "file_path"},
        },
        source="soak",
        output={"path": "s3://output/ml"},
    )
    text = card.model_dump_json()
    events = found.upload(rows, files, rng)
    lost = set(rng.sample(range(files), files // 20))
    sent = [body for number, body in enumerate(events) if number not in lost for _ in range(rng.choice((1, 1, 2, 3)))]
    sent += [json.dumps({"poison": number}) for number in range(5)]
    found.poison = 5
    rng.shuffle(sent)
    for start in range(0, len(sent), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(sent[start : start + 10])]
        world.sqs.send_message_batch(QueueUrl=found.url, Entries=entries)
    for what in ("consumer", "worker"):
        found.start(what, text)
    deadline = time.monotonic() + seconds
    turns = ["consumer", "worker", "postgres"]
    while time.monotonic() < deadline:
        time.sleep(every * rng.uniform(0.5, 1.5))
        if min(found.kills.get(what, 0) for what in turns) >= rounds:
            break
        found.kill(turns[sum(found.kills.values()) % 3], text)
    # Left alone, what is left is done: outputs, poison, the tail of the queue.
    while time.monotonic() < deadline:
        if found.count("select count(*) from raw.soak__ratings") < len(found.good):
            time.sleep(0.5)
            continue
        due = found.count(
            "select count(*) from bindery.load_streams s join bindery.loads l using (load_id) where l.status = "
            "'committed' and not exists (select from bindery.outputs o where o.load_id = s.load_id)"
        )
        if due == 0 and depth(found.url) == {"waiting": 0, "worked_on": 0, "dead": found.poison}:
            break
        time.sleep(0.5)
    found.stop()
    prove(found, files)


def prove(found: Soak, files: int) -> None:
    """Prove rows, quarantine, dead letters, landing log, and outputs."""
    world = found.world
    said = found.log.read_text()[-2000:]
    rows = world.rows("select path, user_id, book_id, rating from raw.soak__ratings")
    assert len(rows) == len(found.good), said
    assert set(rows) == found.good
    assert world.one("select count(*) from raw._quarantine where code = 'type_mismatch'") == found.bad
    assert world.one("select count(*) from raw._quarantine") == found.bad
    assert depth(found.url) == {"waiting": 0, "worked_on": 0, "dead": found.poison}
    assert world.one("select count(*) from bindery.inbox_poison") == found.poison
    assert world.statuses() == {"landed": files}
    written: list[tuple[Any, ...]] = []
    listed = world.s3.get_paginator("list_objects_v2").paginate(Bucket="output", Prefix="ml/soak__ratings/")
    names = {each["Key"] for page in listed for each in page.get("Contents", [])}
    manifests = {name for (name,) in world.rows("select manifest from bindery.outputs where manifest is not null")}
    objects: set[str] = set()
    for manifest in manifests:
        name = manifest.removeprefix("s3://output/")
        told = json.loads(world.s3.get_object(Bucket="output", Key=name)["Body"].read())
        objects |= {each["object"] for each in told["sources"]}
        for each in told["files"]:
            key = f"{name.rpartition('/')[0]}/{each['path']}"
            body = world.s3.get_object(Bucket="output", Key=key)["Body"].read()
            assert hashlib.sha256(body).hexdigest() == each["sha256"]
            assert key in names
            table = pq.read_table(io.BytesIO(body)).to_pylist()
            written += [(row["path"], row["user_id"], row["book_id"], row["rating"]) for row in table]
    assert len(written) == len(found.good)
    assert set(written) == found.good
    assert len(objects) == files
    assert min(found.kills.values()) >= 2, found.kills
