"""Settings reach the containers: what docker-compose.yml passes on, against the settings that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dagster_project.settings import PREFIX, Settings
from tests.run import ROOT
from tests.unit.test_containers import compose

GIVEN = {
    "BINDERY_PROJECT", "BINDERY_DAGSTER_IMAGE", "BINDERY_DBT_IMAGE", "BINDERY_CODE_VERSION", "BINDERY_DATABASE_URL",
    "BINDERY_SECRETS_DIR", "BINDERY_CODE_HOST", "BINDERY_CODE_PORT", "BINDERY_DROP_DIR", "BINDERY_WORLD_URL",
}  # fmt: skip
"""What compose itself says: where things are."""
OF_THE_IMAGE = {"environment", "data_dir", "dagster_home", "project_dir", "dbt_project_dir", "dbt_executable"}
OF_THE_DATABASE = {"database_login", "database_name", "dagster_database", "debug_database", "embedded_user"}
OF_AWS = {"uploads_queue_url", "uploads_bucket", "logs_bucket", "landing_url", "secrets_from"}
OF_THE_WORLD = {"sample_scale", "revision"}
SECRET = {"alert_urls"}
NOT_PASSED = OF_THE_IMAGE | OF_THE_DATABASE | OF_AWS | OF_THE_WORLD | SECRET
"""The image and the compose file have these for good, the world's own service takes them, or they are files."""
PASSED = sorted(
    name.upper()
    for name in Settings.model_fields
    if name not in NOT_PASSED and not name.startswith("ecs_") and PREFIX + name.upper() not in GIVEN
)
SERVICES = ("code", "webserver", "viewer", "daemon", "supervisor", "dbt")


def variables(service: str = "daemon", **said: str) -> dict[str, str]:
    """The variables of a service, where somebody has set some."""
    found: dict[str, str] = compose(**said)["services"][service]["environment"]
    return found


@pytest.mark.parametrize("name", PASSED)
def test_what_is_set_beside_compose_reaches_every_service(name: str) -> None:
    said = {PREFIX + name: "set-by-somebody"}
    assert {variables(service, **said).get(PREFIX + name) for service in SERVICES} == {"set-by-somebody"}


def test_nothing_else_is_passed() -> None:
    known = {PREFIX + name for name in PASSED} | GIVEN
    assert {name for name in variables() if name.startswith(PREFIX)} - {"BINDERY_DAGSTER_URL"} == known


def test_what_nobody_sets_has_the_default_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_ENV_FILE", "")
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    before = Settings()
    for name, value in variables().items():
        if name.removeprefix(PREFIX) in PASSED:
            monkeypatch.setenv(name, value)
    assert Settings() == before


@pytest.mark.parametrize(
    ("said", "catalogue", "bookshop"),
    [
        ({}, "http://world:8080/api", "http://world:8080/shop/"),
        ({"SOURCES": "live"}, "https://gutendex.com", "https://books.toscrape.com"),
        ({"BINDERY_SOURCES": "live"}, "https://gutendex.com", "https://books.toscrape.com"),
        ({"BINDERY_GUTENBERG_URL": "https://a.example"}, "https://a.example", "http://world:8080/shop/"),
    ],
    ids=["sample", "live", "live by its long name", "one's own"],
)
def test_where_sources_are_read(
    said: dict[str, str], catalogue: str, bookshop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_ENV_FILE", "")
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    for name, value in variables("code", **said).items():
        if "SOURCES" in name or name.endswith(("GUTENBERG_URL", "BOOKSHOP_URL", "WORLD_URL")):
            monkeypatch.setenv(name, value)
    found = Settings()
    assert found.resolve_setting("gutenberg_url") == catalogue
    assert found.resolve_setting("bookshop_url") == bookshop


def test_the_world_takes_what_is_its_own_by_both_names() -> None:
    for said in ({"REVISION": "2", "SAMPLE_SCALE": "3"}, {"BINDERY_REVISION": "2", "BINDERY_SAMPLE_SCALE": "3"}):
        command = compose(**said)["services"]["world"]["command"]
        assert {"--revision=2", "--scale=3"} < set(command)


def test_the_guide_lists_what_is_not_passed() -> None:
    guide = (ROOT / "docs" / "docker.md").read_text()
    listed = guide[guide.index("Not passed") : guide.index("## What a step gets")]
    named = set(re.findall(r"`BINDERY_([A-Z_]+)`", listed))
    assert {name.upper() for name in OF_AWS | OF_THE_DATABASE} <= named
    assert not named & set(PASSED)
