"""What every card of the platform gets: the same promises, whatever its source.

A new card in ``defs/`` is found by itself; nothing is listed here by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._utils.schedules import is_valid_cron_string

from dagster_project.components import FileSource, RestApiSource, SourceComponent, WebSource, naming
from dagster_project.components.checks import DRIFT, FRESH, REFUSED, ROWS
from dagster_project.components.landing import FETCHED
from dagster_project.components.schedule import interval_seconds, usable_cron
from dagster_project.definitions import ROOT
from dagster_project.ingest.cards import SourceCard
from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.ingest.cards.read import json_schema, read_cards

COMPONENTS: dict[str, type[SourceComponent]] = {
    f"dagster_project.components.{kind.__name__}": kind for kind in (RestApiSource, WebSource, FileSource)
}
FILES = sorted((ROOT / "defs").rglob("defs.yaml"))
CARDS = [(path, card) for path in FILES for card in read_cards(path)]

every_card = pytest.mark.parametrize(("path", "card"), CARDS, ids=[card.source for _, card in CARDS])
every_file = pytest.mark.parametrize("path", FILES, ids=[path.parent.name for path in FILES])


def component_of(path: Path, card: SourceCard) -> SourceComponent:
    documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
    (document,) = [each for each in documents if each["attributes"]["source"] == card.source]
    kind = COMPONENTS[document["type"]]
    # The model of the form in Dagster is the model of `bindery check` and of the JSON Schema.
    assert kind.get_model_cls() is type(card)
    return kind(card)


@pytest.fixture
def built(path: Path, card: SourceCard) -> dg.Definitions:
    return component_of(path, card).definitions()


def specs_of(built: dg.Definitions) -> dict[dg.AssetKey, dg.AssetSpec]:
    return {
        spec.key: spec for asset in built.assets or [] if isinstance(asset, dg.AssetsDefinition) for spec in asset.specs
    }


def ops_of(built: dg.Definitions) -> dict[str, dg.AssetsDefinition]:
    return {asset.op.name: asset for asset in built.assets or [] if isinstance(asset, dg.AssetsDefinition)}


def test_there_are_cards() -> None:
    assert {card.source for _, card in CARDS} >= {"gutenberg", "bookshop", "uploads"}


@every_file
def test_an_editor_finds_the_schema(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema="), first
    assert (path.parent / first.partition("=")[2]).resolve().exists()
    assert json_schema()


@every_card
def test_it_says_where_the_data_come_from_and_under_which_terms(path: Path, card: SourceCard) -> None:
    assert card.source == path.parent.name, "folder and source have one name"
    for field in ("description", "publisher", "licence"):
        assert getattr(card, field), f"{path}: `{field}` is missing"
    assert card.owners, f"{path}: `owners` is missing"
    assert card.schedule is not None, f"{path}: `schedule` is missing"
    for stream in card.all_streams:
        assert stream.description, f"{path}: stream {stream.name!r} has no `description`"
        assert stream.description.lower().startswith("one row per "), "the grain comes first"
        bounds = stream.expect
        assert bounds.min_rows is not None, f"{path}: stream {stream.name!r} has no `expect.min_rows`"


@every_card
def test_two_ops_fetch_and_load_it(card: SourceCard, built: dg.Definitions) -> None:
    ops = ops_of(built)
    assert set(ops) == {f"landing__{card.source}", f"raw__{card.source}"}
    landing, raw = ops[naming.fetch_op(card.source)], ops[naming.load_op(card.source)]
    assert landing.keys == {dg.AssetKey(["landing", card.source])}
    assert raw.keys == {dg.AssetKey(["raw", f"{card.source}__{stream.name}"]) for stream in card.all_streams}
    assert raw.can_subset
    for op, compute in ((landing.op, card.compute.fetch), (raw.op, card.compute.load)):
        assert op.tags[naming.COMPUTE_TAG] == compute.tag
        assert op.pool == f"source_{card.source}"
        assert op.retry_policy is not None
        assert op.retry_policy.max_retries == card.retry.attempts
    for key in raw.keys:
        assert raw.asset_deps[key] == {dg.AssetKey(["landing", card.source])}


@every_card
def test_its_assets_say_whose_and_what_they_are(card: SourceCard, built: dg.Definitions) -> None:
    for spec in specs_of(built).values():
        assert spec.group_name == card.source
        assert spec.owners == card.owners
        assert spec.description
        assert spec.kinds
        if spec.key.path[0] == "raw":
            assert spec.metadata["dagster/table_name"] == f"raw.{spec.key.path[1]}"
            assert "postgres" in spec.kinds


@every_card
def test_its_checks_are_emitted_by_its_own_ops(card: SourceCard, built: dg.Definitions) -> None:
    landing, raw = (ops_of(built)[name(card.source)] for name in (naming.fetch_op, naming.load_op))
    assert {key.name for key in landing.check_keys} == {FETCHED}
    specs = {spec.key: spec for spec in raw.check_specs}
    for stream in card.all_streams:
        key = naming.raw_key(card, stream.name)
        names = {check.name for check in specs if check.asset_key == key}
        assert {REFUSED, ROWS, DRIFT, FRESH} <= names
        assert specs[dg.AssetCheckKey(key, ROWS)].blocking
        assert not specs[dg.AssetCheckKey(key, DRIFT)].blocking
    assert not built.asset_checks


@every_card
def test_it_moves_by_itself(card: SourceCard, built: dg.Definitions) -> None:
    jobs = {getattr(job, "name", "") for job in built.jobs or ()}
    assert jobs == {f"{card.source}_pipeline", f"{card.source}_pipeline_with_scraping", f"{card.source}_replay"}
    (schedule,) = [each for each in built.schedules or [] if isinstance(each, dg.ScheduleDefinition)]
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == naming.fetch_job(card.source)
    cron = usable_cron(card)
    assert cron is not None
    assert is_valid_cron_string(cron)
    assert (interval_seconds(card) or 0) >= 60
    assert len(list(built.sensors or ())) == (isinstance(card, FileSourceCard) and card.watch)


@every_card
def test_a_wrong_field_is_refused_with_its_place(path: Path, card: SourceCard, tmp_path: Path) -> None:
    from dagster_project.ingest.errors import CardError

    documents: list[dict[str, Any]] = list(yaml.safe_load_all(path.read_text()))
    documents[0]["attributes"]["shedule"] = "@daily"
    wrong = tmp_path / "defs.yaml"
    wrong.write_text(yaml.safe_dump_all(documents))
    with pytest.raises(CardError, match="shedule"):
        read_cards(wrong)
