"""A bucket read as a source: every observation once, whatever landing is, whatever keys are called."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from dagster_project.ingest import pipeline
from dagster_project.ingest.errors import SourceError
from dagster_project.settings import Settings
from tests.aws.moto import Moto
from tests.aws.uploads_world import Uploads, landing_of

T = {"name": "t", "columns": {"a": {"type": "bigint"}}}


@pytest.fixture(params=["bucket", "folder"])
def world(request: pytest.FixtureRequest, aws: Moto, settings: Settings, tmp_path: Path) -> Uploads:
    return Uploads(aws, settings, landing_of(request.param, tmp_path))


@pytest.fixture
def versioned(aws: Moto, settings: Settings, tmp_path: Path) -> Uploads:
    return Uploads(aws, settings, landing_of("bucket", tmp_path), versioned=True)


def test_the_same_bytes_load_once_and_a_b_a_three_times(world: Uploads) -> None:
    card = world.card(T)
    expected = []
    for text in ("a\n1\n", "a\n1\n", "a\n2\n", "a\n1\n"):
        world.put("in/t.csv", text)
        expected.append(world.run(card).load_id is not None)
    assert expected == [True, False, True, True]
    assert world.rows("select a from raw.src__t order by _load_id") == [(1,), (2,), (1,)]


def test_bytes_that_are_the_same_under_another_etag_load_once(world: Uploads) -> None:
    body = b"a\n" + b"12345\n" * 2_000_000
    world.put("in/t.csv", body)
    card = world.card(T)
    assert world.run(card).streams["t"].inserted == 2_000_000
    upload = world.s3.create_multipart_upload(Bucket="uploads", Key="in/t.csv")["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(body), 6_000_000), 1):
        part = world.s3.upload_part(
            Bucket="uploads", Key="in/t.csv", UploadId=upload, PartNumber=number, Body=body[start : start + 6_000_000]
        )
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    world.s3.complete_multipart_upload(
        Bucket="uploads", Key="in/t.csv", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    assert "-" in world.s3.head_object(Bucket="uploads", Key="in/t.csv")["ETag"]
    for _ in range(2):
        assert world.run(card).load_id is None
    assert world.statuses() == {"landed": 1, "passed": 1}


def test_a_replay_needs_what_was_overwritten_no_more(world: Uploads) -> None:
    card = world.card(T)
    world.put("in/t.csv", "a\n1\n")
    world.run(card)
    world.put("in/t.csv", "a\n2\n")
    world.s3.delete_object(Bucket="uploads", Key="in/t.csv")
    assert pipeline.replay_source(card, world.runtime).load.streams["t"].rows_read == 1
    assert world.rows("select a from raw.src__t") == [(1,)]


def test_a_versioned_bucket_is_referred_to_not_copied(versioned: Uploads) -> None:
    card = versioned.card(T)
    for text in ("a\n1\n", "a\n2\n"):
        versioned.put("in/t é+1.csv", text)
        versioned.run(card)
    assert "Contents" not in versioned.s3.list_objects_v2(Bucket="landing")
    assert all(uri.startswith("s3://uploads/in/t%20") for (uri,) in versioned.rows("select uri from bindery.landed"))
    assert pipeline.replay_source(card, versioned.runtime).load.streams["t"].rows_read == 2
    assert versioned.rows("select a from raw.src__t order by 1") == [(1,), (2,)]


def test_copies_of_a_versioned_bucket_are_made_where_the_card_says(versioned: Uploads) -> None:
    versioned.put("in/t.csv", "a\n1\n")
    versioned.run(versioned.card(T, copies="all"))
    assert len(versioned.s3.list_objects_v2(Bucket="landing")["Contents"]) == 1
    assert versioned.one("select sha256 is not null from bindery.landed")


ODD = [
    "t ü 日本.csv",
    "t+plus & and.csv",
    "t%2Fpercent.csv",
    "t/deep/er/x.csv",
    "t'quote\".csv",
    "t=1/x.csv",
    "t#?.csv",
]


def test_odd_names_are_names_like_others(world: Uploads) -> None:
    for number, name in enumerate(ODD):
        world.put(f"in/{name}", f"a\n{number}\n")
    world.put("in/other.csv", "a\n99\n")
    world.put("elsewhere/t.csv", "a\n98\n")
    world.run(world.card({**T, "add": {"path": "file_path"}}))
    found = world.rows("select a, path from raw.src__t order by a")
    assert found == list(enumerate(ODD))


def test_hostile_names_are_passed_over_and_said(world: Uploads) -> None:
    for name in ("t/", "t/../../secret.csv", "t/./x.csv", "t\x07bell.csv", "t//x.csv", "t/.hidden.csv", "t.csv.part"):
        world.put(f"in/{name}", b"a\n666\n" if not name.endswith("/") else b"")
    world.put("in/t.csv", "a\n1\n")
    report = world.run(world.card(T))
    assert report.streams["t"].inserted == 1
    told = " ".join(str(each.message) for each in world.seen if each.stage == "warning")
    assert "t/../../secret.csv" in told
    assert "t\\x07bell.csv" in told
    assert world.rows("select a from raw.src__t") == [(1,)]


def test_all_formats_and_many_pages_of_the_list(world: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.ingest.fetch import bucket

    monkeypatch.setattr(bucket, "PAGE", 7)
    world.put("in/t0.csv.gz", gzip.compress(b"a\n0\n"))
    for number in range(1, 31):
        world.put(f"in/t{number:02}.jsonl", f'{{"a": {number}}}\n')
    report = world.run(world.card(T))
    assert report.streams["t"].inserted == 31
    assert world.one("select sum(a) from raw.src__t") == sum(range(31))


def test_prefix_and_suffix_instead_of_patterns(world: Uploads) -> None:
    for name in ("t/a.csv", "t/b/c.CSV", "t/d.json", "tt.csv"):
        world.put(f"in/{name}", "a\n1\n")
    world.run(world.card({**T, "prefix": "t/", "suffix": ".csv", "add": {"path": "file_path"}}))
    assert world.rows("select path from raw.src__t") == [("t/a.csv",)]


def test_a_preview_needs_no_database(aws: Moto, settings: Settings, tmp_path: Path) -> None:
    world = Uploads(aws, settings, "s3://landing/raw")
    world.put("in/t.csv", "a,b\n1,x\n2,y\n")
    assert pipeline.preview(world.card(T), world.runtime, "t") == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert world.statuses() == {}


def test_a_full_refresh_lands_all_once_more(world: Uploads) -> None:
    card = world.card({**T, "write": "merge", "primary_key": "a", "missing": "delete"})
    world.put("in/t1.csv", "a\n1\n")
    world.put("in/t2.csv", "a\n2\n")
    world.run(card)
    world.s3.delete_object(Bucket="uploads", Key="in/t1.csv")
    assert world.run(card).load_id is None
    world.run(card, full_refresh=True)
    assert world.rows("select a from raw.src__t") == [(2,)]


def test_a_bucket_that_isnt_there_is_named(world: Uploads) -> None:
    card = world.card(T, path="s3://nowhere-at-all/in")
    with pytest.raises(SourceError, match=r"s3://nowhere-at-all/in/: there is no such bucket"):
        world.run(card)


def test_a_landing_that_refuses_leaves_uploads_announced(aws: Moto, settings: Settings) -> None:
    world = Uploads(aws, settings, "s3://no-landing-here/raw")
    world.put("in/t.csv", "a\n1\n")
    with pytest.raises(SourceError, match=r"s3://uploads/in/t.csv to s3://no-landing-here/raw/: .*no such bucket"):
        world.run(world.card(T))
    assert world.statuses() == {"announced": 1}
    world.runtime.landing = "s3://landing/raw"
    world.run(world.card(T))
    assert world.rows("select a from raw.src__t") == [(1,)]
