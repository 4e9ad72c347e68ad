"""``bindery inbox``, and the other commands over a bucket, as people type them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dagster_project.cli.main import main
from dagster_project.ingest.inbox.consume import consume, routes_of
from dagster_project.ingest.inbox.queue import depth
from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.aws.uploads_world import Uploads

CARD = """
type: dagster_project.components.FileSource
attributes:
  source: src
  path: {setting: uploads_path}
  streams:
    - name: t
      prefix: t
      suffix: .csv
      columns: {a: {type: bigint}}
"""


class Desk:
    """Somebody at a terminal."""

    def __init__(self, world: Uploads, card: Path) -> None:
        self.world = world
        self.card_file = card
        self.url = world.queue(receives=1)

    def say(self, *words: str) -> Result:
        return CliRunner().invoke(main, words)

    def lines(self, *words: str) -> list[dict[str, Any]]:
        done = self.say(*words, "--json")
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    def consume(self) -> None:
        card = self.world.card({"name": "t", "columns": {"a": {"type": "bigint"}}})
        consume(routes_of([card], self.world.runtime), self.world.runtime, self.url, seconds=5, wait=0, hidden=1)


@pytest.fixture
def desk(aws: Moto, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("BINDERY_LANDING_URL", "s3://landing/raw")
    monkeypatch.setenv("BINDERY_UPLOADS_PATH", "s3://uploads/in")
    file = tmp_path / "defs.yaml"
    file.write_text(CARD)
    desk = Desk(Uploads(aws, settings, "s3://landing/raw"), file)
    monkeypatch.setenv("BINDERY_UPLOADS_QUEUE_URL", desk.url)
    return desk


def test_check_preview_and_run_work_on_a_bucket(desk: Desk) -> None:
    desk.world.put("in/t.csv", "a,b\n1,x\n")
    assert desk.say("check", str(desk.card_file)).exit_code == 0
    shown = desk.say("preview", "--card", str(desk.card_file), "src.t")
    assert shown.exit_code == 0, shown.output
    assert "x" in shown.output
    done = desk.say("run", "--card", str(desk.card_file))
    assert done.exit_code == 0, done.output
    assert desk.world.rows("select a, b from raw.src__t") == [(1, "x")]
    (row,) = desk.lines("inbox", "list")
    assert (row["state"], row["object"]) == ("loaded", "s3://uploads/in/t.csv")
    (facts,) = desk.lines("inbox", "show", str(row["id"]))
    assert facts["loads"] == [1]
    assert facts["uri"].startswith("objects/")
    assert "etag" in desk.say("inbox", "show", str(row["id"])).output


def test_a_bucket_that_refuses_is_a_source_failure(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_UPLOADS_PATH", "s3://not-there/in")
    done = desk.say("run", "--card", str(desk.card_file))
    assert done.exit_code == 3
    assert "s3://not-there/in/: there is no such bucket" in done.output


def test_a_failed_upload_is_tried_again(desk: Desk) -> None:
    desk.world.put("in/t.csv", "a\n1\n")
    desk.consume()
    desk.world.s3.delete_object(Bucket="uploads", Key="in/t.csv")
    assert desk.say("run", "--card", str(desk.card_file)).exit_code == 0
    (row,) = desk.lines("inbox", "list", "--state", "failed")
    assert "removed before it was read" in row["why"]
    assert desk.lines("inbox", "list", "--state", "announced") == []
    desk.world.put("in/t.csv", "a\n1\n")
    (again,) = desk.lines("inbox", "retry", str(row["id"]))
    assert (again["was"], again["attempt"]) == ("failed", 2)
    assert desk.say("run", "--card", str(desk.card_file)).exit_code == 0
    assert desk.world.rows("select a from raw.src__t") == [(1,)]
    (row,) = desk.lines("inbox", "list")
    assert (row["state"], row["attempt"]) == ("loaded", 2)
    shown = desk.say("inbox", "retry", str(row["id"]))
    assert "bindery replay" in shown.output


def test_dead_letters_come_back(desk: Desk) -> None:
    desk.world.sqs.send_message(QueueUrl=desk.url, MessageBody="rubbish")
    deadline = time.monotonic() + 20
    while depth(desk.url)["dead"] != 1 and time.monotonic() < deadline:
        desk.consume()
        time.sleep(0.3)
    (dead,) = desk.lines("inbox", "list", "--state", "dead")
    assert (dead["body"], dead["reason"].startswith("no JSON")) == ("rubbish", True)
    assert desk.lines("inbox", "redrive") == [{"moved": 1}]
    assert depth(desk.url) == {"waiting": 1, "worked_on": 0, "dead": 0}
    assert desk.lines("inbox", "list", "--state", "dead") == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["inbox", "show", "12"], 2, "no upload 12"),
        (["inbox", "retry", "12"], 2, "no upload 12"),
        (["inbox", "retry"], 2, "which?"),
        (["inbox", "list", "--state", "odd"], 2, "Invalid value"),
        (["inbox", "list"], 0, "no uploads"),
        (["inbox", "--help"], 0, "redrive"),
    ],
)
def test_what_isnt_there_is_said(desk: Desk, words: list[str], code: int, said: str) -> None:
    done = desk.say(*words)
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_without_a_queue_nothing_is_redriven(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERY_UPLOADS_QUEUE_URL")
    done = desk.say("inbox", "redrive")
    assert (done.exit_code, "BINDERY_UPLOADS_QUEUE_URL" in done.output) == (2, True)


def test_check_tells_of_cards_that_feed_each_other(desk: Desk, tmp_path: Path) -> None:
    cards = []
    for name, path, output in (("one", "s3://xxx/in", "s3://yyy/in"), ("two", "s3://yyy/in", "s3://xxx/in")):
        text = CARD.replace("source: src", f"source: {name}").replace("{setting: uploads_path}", path)
        cards.append(text + f"  output: {{path: {output}}}\n")
    file = tmp_path / "ring.yaml"
    file.write_text("---\n".join(cards))
    done = desk.say("check", str(file))
    assert (done.exit_code, "output of one, two is read as input in a ring" in done.output) == (2, True), done.output
