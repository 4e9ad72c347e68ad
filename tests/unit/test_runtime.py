"""The engine's runtime as commands and steps get it: every value of the settings, and nothing opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.ingest.cards.base import SecretRef, SettingRef
from dagster_project.ingest.runtime import Progress
from dagster_project.runtime import engine_runtime
from dagster_project.settings import MissingSettingError, Settings
from dagster_project.warehouse.connection import WarehouseUnavailableError


def test_the_runtime_says_what_the_settings_say(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, project_dir=tmp_path, contact="mailto:a@example.org", code_version="1.2")
    told: list[Progress] = []
    runtime = engine_runtime(settings, run_id="r", progress=told.append)
    assert (runtime.landing, runtime.base, runtime.contact) == (str(tmp_path / "landing"), tmp_path, settings.contact)
    assert (runtime.run_id, runtime.code) == ("r", "1.2"), "what the load log keeps"
    runtime.progress(Progress("s", "fetch"))
    assert told


def test_references_are_read_when_they_are_used(tmp_path: Path) -> None:
    runtime = engine_runtime(Settings(data_dir=tmp_path, revision=3))
    assert runtime.text(SettingRef(setting="revision")) == "3"
    with pytest.raises(MissingSettingError, match="TOKEN"):
        runtime.text(SecretRef(secret="TOKEN"))  # pragma: allowlist secret
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("s3cret\n")
    assert runtime.text(SecretRef(secret="TOKEN")) == "s3cret"  # pragma: allowlist secret


def test_a_connection_is_the_loaders_to_the_database_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "postgres_loader_password").write_text("x")
    settings = Settings(data_dir=tmp_path, database_url="postgresql://admin@127.0.0.1:9/first")
    with pytest.raises(WarehouseUnavailableError, match="bindery_loader"):
        engine_runtime(settings, database="scratch").connect()


def test_secrets_are_not_handed_to_children_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster_project.operations.instance import exported

    monkeypatch.setenv("BINDERY_ALERT_URLS", "json://127.0.0.1/hook")
    values = exported(Settings(sample_scale=2, database_url="postgresql://me@localhost/x"))
    assert values["BINDERY_SAMPLE_SCALE"] == "2.0"
    assert not {"BINDERY_ALERT_URLS", "BINDERY_DATABASE_URL"} & values.keys()
