"""The settings model: order of layers, words of errors, derived values, URLs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.settings import (
    MissingSettingError,
    Settings,
    SettingsError,
    get_settings,
    unknown_names,
    use_settings,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of its own, whose .env is read."""
    monkeypatch.setenv("BINDERY_PROJECT_DIR", str(tmp_path))
    monkeypatch.delenv("BINDERY_ENV_FILE")
    return tmp_path


def test_layers_win_in_their_order(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = project / ".bindery" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "contact").write_text("folder\n")
    assert Settings().contact == "folder"
    (project / "contact.txt").write_text("named file\n")
    monkeypatch.setenv("BINDERY_CONTACT_FILE", str(project / "contact.txt"))
    assert Settings().contact == "named file"
    (project / ".env").write_text("# mine\nexport BINDERY_CONTACT='dot env'  # quoted\n")
    assert Settings().contact == "dot env"
    monkeypatch.setenv("BINDERY_CONTACT", "environment")
    assert Settings().contact == "environment"
    assert Settings(contact="argument").contact == "argument"


def test_an_empty_value_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_DATABASE_URL", "")
    monkeypatch.setenv("BINDERY_SAMPLE_SCALE", "")
    assert Settings().database_url is None
    assert Settings().sample_scale == 1


def test_short_names_work_and_long_ones_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCES", "live")
    monkeypatch.setenv("SAMPLE_SCALE", "2.5")
    monkeypatch.setenv("REVISION", "2")
    found = Settings()
    assert (found.sources, found.sample_scale, found.revision) == ("live", 2.5, 2)
    monkeypatch.setenv("BINDERY_SOURCES", "sample")
    assert Settings().sources == "sample"


def test_every_wrong_setting_is_named_with_its_origin(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_SCALE", "big")
    (project / ".env").write_text("BINDERY_REVISION=0\n")
    with pytest.raises(SettingsError) as caught:
        Settings(sources="everything")
    text = str(caught.value)
    assert "BINDERY_SAMPLE_SCALE (environment variable SAMPLE_SCALE)" in text
    assert "'big'" in text
    assert "BINDERY_REVISION (.env BINDERY_REVISION)" in text
    assert "BINDERY_SOURCES (argument)" in text
    assert "Size of the sample world" in text


def test_a_wrong_secret_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_DATABASE_URL", "mysql://root:hunter2@db/x")
    with pytest.raises(SettingsError, match="BINDERY_DATABASE_URL") as caught:
        Settings()
    assert "hunter2" not in str(caught.value)


def test_an_unknown_argument_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match=r"sampel_scale.*'sample_scale'"):
        Settings(sampel_scale=2)


def test_a_named_file_that_is_not_there_is_an_error_naming_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_DATABASE_URL_FILE", "/nowhere/url")
    with pytest.raises(SettingsError, match=r"BINDERY_DATABASE_URL_FILE .*/nowhere/url"):
        Settings()


def test_a_broken_env_file_is_an_error_with_its_line(project: Path) -> None:
    (project / ".env").write_text("A=1\nnot a setting\n")
    with pytest.raises(SettingsError, match=r"\.env:2: expected NAME=value"):
        Settings()


def test_secrets_do_not_print() -> None:
    found = Settings(database_url="postgresql://me:hunter2@db/x")
    assert "hunter2" not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().revision = 2  # type: ignore[misc]


def test_relative_paths_start_from_the_project(project: Path) -> None:
    found = Settings(data_dir="state", drop_dir="/in")
    assert found.data_dir == project / "state"
    assert found.drop_path == Path("/in")
    assert found.secrets_path == project / "state" / "secrets"
    assert found.landing_root == str(project / "state" / "landing")
    assert found.dbt_path == Path("dbt")


def test_get_settings_reads_again_what_changed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = get_settings()
    assert get_settings() is first
    monkeypatch.setenv("REVISION", "2")
    assert get_settings().revision == 2
    (project / ".env").write_text("BINDERY_CONTACT=myself\n")
    assert get_settings().contact == "myself"
    secrets = project / ".bindery" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "bindery_log_level").write_text("DEBUG")
    assert get_settings().log_level == "DEBUG"


def test_use_settings_holds_until_taken_back() -> None:
    mine = Settings(revision=7)
    use_settings(mine)
    assert get_settings() is mine
    use_settings(None)
    assert get_settings().revision == 1


def test_a_cards_setting_is_a_field_or_a_value_of_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Settings(sources="live", data_dir=tmp_path)
    assert found.resolve_setting("gutenberg_url") == "https://gutendex.com"
    assert found.resolve_setting("gutenberg_max_pages") == "5"
    monkeypatch.setenv("BINDERY_MY_API_URL", "https://api.example.org")
    assert found.resolve_setting("my_api_url") == "https://api.example.org"
    assert Settings(bookshop_url="http://here").resolve_setting("bookshop_url") == "http://here"


def test_the_sample_worlds_urls_come_from_the_running_world(tmp_path: Path) -> None:
    found = Settings(data_dir=tmp_path)
    with pytest.raises(MissingSettingError, match="bindery world start"):
        found.resolve_setting("gutenberg_url")
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "world.json").write_text(json.dumps({"gutenberg_url": "http://127.0.0.1:1/api"}))
    assert found.resolve_setting("gutenberg_url") == "http://127.0.0.1:1/api"
    with pytest.raises(MissingSettingError, match="bookshop_url"):
        found.resolve_setting("bookshop_url")


def test_a_sample_world_elsewhere_is_read_until_sources_are_live(tmp_path: Path) -> None:
    sample = Settings(data_dir=tmp_path, world_url="http://world:8080")
    assert sample.resolve_setting("gutenberg_url") == "http://world:8080/api"
    assert sample.resolve_setting("bookshop_url") == "http://world:8080/shop/"
    live = Settings(data_dir=tmp_path, world_url="http://world:8080", sources="live")
    assert live.resolve_setting("gutenberg_url") == "https://gutendex.com"


def test_a_missing_setting_says_where_to_set_it_and_what_is_near(tmp_path: Path) -> None:
    found = Settings(data_dir=tmp_path)
    with pytest.raises(MissingSettingError) as caught:
        found.resolve_setting("bookshop_uri")
    text = str(caught.value)
    assert "BINDERY_BOOKSHOP_URI" in text
    assert "BINDERY_BOOKSHOP_URI_FILE" in text
    assert str(tmp_path / "secrets" / "bindery_bookshop_uri") in text
    assert "Did you mean 'bookshop_url'?" in text
    with pytest.raises(MissingSettingError) as caught:
        found.resolve_secret("GUTENBERG_TOKEN")
    assert "GUTENBERG_TOKEN" in str(caught.value)
    assert str(tmp_path / "secrets" / "gutenberg_token") in str(caught.value)


def test_a_secret_is_not_given_as_a_setting() -> None:
    found = Settings(database_url="postgresql://me:hunter2@db/x")
    with pytest.raises(SettingsError, match=r"\{secret: database_url\}") as caught:
        found.resolve_setting("database_url")
    assert "hunter2" not in str(caught.value)
    assert found.resolve_secret("DATABASE_URL").get_secret_value() == "postgresql://me:hunter2@db/x"
    assert found.resolve_secret("BINDERY_DATABASE_URL").get_secret_value() == "postgresql://me:hunter2@db/x"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://a:b@h:5433/x?sslmode=require",
            "postgresql://bindery_loader:p%40%2Fw@h:5433/bindery?sslmode=require",
        ),
        ("postgres://a@h1:1,h2:2/x", "postgres://bindery_loader:p%40%2Fw@h1:1,h2:2/bindery"),
        (
            "postgresql:///x?host=/run/pg&user=a&password=b",
            "postgresql://bindery_loader:p%40%2Fw@/bindery?host=%2Frun%2Fpg",  # pragma: allowlist secret
        ),
        ("postgresql://a:b%40c@[::1]:5432/x", "postgresql://bindery_loader:p%40%2Fw@[::1]:5432/bindery"),
    ],
)
def test_a_roles_url_keeps_hosts_and_parameters(url: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_LOADER_PASSWORD", "p@/w")
    dsn = Settings(database_url=url).dsn("loader")
    assert dsn.get_secret_value() == expected
    assert "p%40" not in str(dsn)


def test_with_a_shared_login_the_role_is_taken_on() -> None:
    found = Settings(database_url="postgresql://me:pw@h/x?options=-c%20a%3D1", database_login="shared")
    assert (
        found.dsn("reader", "other").get_secret_value()
        == "postgresql://me:pw@h/other?options=-c%20a%3D1%20-c%20role%3Dbindery_reader"
    )
    with pytest.raises(SettingsError, match="shared needs database_url"):
        Settings(database_login="shared")


def test_dagsters_role_has_its_own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_DAGSTER_PASSWORD", "x")
    assert Settings(database_url="postgresql://h").dsn("dagster").get_secret_value().endswith("@h/dagster")


def test_without_server_or_password_the_way_out_is_named(tmp_path: Path) -> None:
    found = Settings(data_dir=tmp_path)
    with pytest.raises(MissingSettingError, match="bindery db start"):
        found.admin_dsn()
    with pytest.raises(MissingSettingError, match="postgres_reader_password"):
        found.dsn("reader")


def test_databases_must_differ_and_have_plain_names() -> None:
    with pytest.raises(SettingsError, match="should differ"):
        Settings(debug_database="bindery")
    with pytest.raises(SettingsError, match="BINDERY_DATABASE_NAME"):
        Settings(database_name='x"; drop database y')


def test_importing_the_settings_is_light() -> None:
    code = (
        "import sys, dagster_project.settings; heavy = 'pandas numpy pyarrow psycopg dagster requests alembic'; "
        "print([name for name in heavy.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_slip_of_a_name_is_noticed_and_what_cards_name_is_left_alone() -> None:
    known = list(Settings.model_fields)
    names = ["BINDERY_KEEP_RUN", "BINDERY_KEEP_RUNS", "BINDERY_DATABASE_URL_FILE", "BINDERY_WEATHER_URL", "KEEP_RUN"]
    assert unknown_names(names, known) == {"BINDERY_KEEP_RUN": "BINDERY_KEEP_RUNS"}


@pytest.mark.parametrize(("name", "value", "said"), [("KEEP_RUNS", "3x", "30m or 90d"), ("UI_URL", "here", "http://")])
def test_what_is_expected_is_told_in_words(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"BINDERY_{name}", value)
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert said in str(caught.value)
    assert "pattern" not in str(caught.value)
