"""The secrets of a new installation in containers: strong, each where only those read it who need it, and kept."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import bcrypt
import pytest
from click.testing import CliRunner

from dagster_project.cli.installation import STEPS, folder_of_secrets
from dagster_project.cli.installation import secrets as secrets_command
from dagster_project.operations import first_secrets
from dagster_project.operations.first_secrets import Folders, WeakSecretError, make, refuse_weak
from dagster_project.settings import Settings, get_settings

ROLES = {"loader", "transformer", "features", "reader", "api", "dagster"}


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda rounds: usual(4) if rounds >= 10 else pytest.fail("hash too weak"))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "admin", tmp_path / "steps", tmp_path / "front")


def files(folder: Path) -> Iterator[tuple[str, str, int]]:
    for path in sorted(folder.iterdir()):
        yield path.name, path.read_text(), stat.S_IMODE(path.stat().st_mode)


def test_everything_is_made_where_only_those_read_it_who_need_it(folders: Folders) -> None:
    made = make(folders)
    assert {name: mode for name, _, mode in files(folders.admin)} == {
        # Another user's container reads this one, from a volume that nobody else mounts.
        "postgres_password": 0o444,
        "database_url": 0o400,
        "operator_password": 0o400,
        "viewer_password": 0o400,
        "postgres_owner_password": 0o400,
    }
    roles = {f"postgres_{role}_password" for role in ROLES}
    assert {name: mode for name, _, mode in files(folders.steps)} == {**dict.fromkeys(roles, 0o400), "pgpass": 0o600}
    assert {name: mode for name, _, mode in files(folders.front)} == {"users.caddy": 0o444}
    assert len(made) == len(set(made)) == 5 + 7 + 1


def test_passwords_are_long_and_each_is_another(folders: Folders, tmp_path: Path) -> None:
    make(folders)
    other = Folders(tmp_path / "a", tmp_path / "s", tmp_path / "f")
    make(other)
    values = [
        text
        for installation in (folders, other)
        for folder in (installation.admin, installation.steps)
        for name, text, _ in files(folder)
        if name.endswith("_password")
    ]
    assert len(values) == len(set(values)) == 2 * (4 + len(ROLES))
    assert min(map(len, values)) == 32


def test_steps_hold_neither_the_superuser_nor_the_logins_of_people(folders: Folders) -> None:
    make(folders)
    hidden = [text for name, text, _ in files(folders.admin) if name.endswith("_password")]
    seen = "".join(text for folder in (folders.steps, folders.front) for _, text, _ in files(folder))
    assert not [value for value in hidden if value in seen]


def test_the_files_that_programs_read_hold_the_same_passwords(folders: Folders) -> None:
    make(folders, host="db", port=5433, database="storage")
    url = urlsplit((folders.admin / "database_url").read_text())
    assert (url.username, url.hostname, url.port, url.path) == ("postgres", "db", 5433, "/postgres")
    assert unquote(url.password or "") == (folders.admin / "postgres_password").read_text()
    password = (folders.steps / "postgres_dagster_password").read_text()
    assert (folders.steps / "pgpass").read_text() == f"db:5433:storage:bindery_dagster:{password}\n"
    users = dict(line.split(" ") for line in (folders.front / "users.caddy").read_text().splitlines())
    assert list(users) == ["operator", "viewer"]
    for name, hashed in users.items():
        assert bcrypt.checkpw((folders.admin / f"{name}_password").read_bytes(), hashed.encode())


def test_what_is_there_is_kept(folders: Folders) -> None:
    make(folders)
    before = [list(files(folder)) for folder in (folders.admin, folders.steps, folders.front)]
    assert make(folders) == []
    assert [list(files(folder)) for folder in (folders.admin, folders.steps, folders.front)] == before


def test_one_that_is_missing_is_made_again_alone(folders: Folders) -> None:
    make(folders)
    (folders.steps / "postgres_api_password").unlink()
    assert make(folders) == ["postgres_api_password"]


def test_a_login_of_ones_own_choice_reaches_the_proxy(folders: Folders) -> None:
    make(folders)
    path = folders.admin / "operator_password"
    path.chmod(0o600)
    path.write_text("correct horse battery staple\n")
    assert make(folders) == ["users.caddy"]
    hashed = (folders.front / "users.caddy").read_text().splitlines()[0].split(" ")[1]
    assert bcrypt.checkpw(b"correct horse battery staple", hashed.encode())
    assert make(folders) == []


def test_services_of_profiles_get_what_they_need_and_no_more(folders: Folders, tmp_path: Path) -> None:
    with_profiles = replace(folders, gui=tmp_path / "gui", registry=tmp_path / "registry")
    assert {"reader_password", "htpasswd"} <= set(make(with_profiles))
    gui, registry = tmp_path / "gui", tmp_path / "registry"
    reader = (folders.steps / "postgres_reader_password").read_text()
    assert list(files(gui)) == [("reader_password", reader, 0o400)]
    ((name, line, mode),) = files(registry)
    assert (name, mode) == ("htpasswd", 0o400)
    login, hashed = line.strip().split(":")
    operator = (folders.admin / "operator_password").read_bytes()
    assert login == "operator"
    assert bcrypt.checkpw(operator, hashed.encode())
    assert make(with_profiles) == []
    for path, value in (
        (folders.steps / "postgres_reader_password", "Xq7another reader"),
        (folders.admin / "operator_password", "correct horse battery staple"),
    ):
        path.chmod(0o600)
        path.write_text(value)
    assert sorted(make(with_profiles)) == ["htpasswd", "reader_password", "users.caddy"]
    assert (gui / "reader_password").read_text() == "Xq7another reader"


def test_files_that_follow_from_a_password_follow_its_change(folders: Folders) -> None:
    make(folders)
    for path, value in (
        (folders.steps / "postgres_dagster_password", "another:long\\passphrase"),
        (folders.admin / "postgres_password", "yet another p@ssphrase/"),
    ):
        path.chmod(0o600)
        path.write_text(value)
    assert sorted(make(folders)) == ["database_url", "pgpass"]
    assert (folders.steps / "pgpass").read_text().endswith(":bindery_dagster:another\\:long\\\\passphrase\n")
    url = urlsplit((folders.admin / "database_url").read_text())
    assert unquote(url.password or "") == "yet another p@ssphrase/"
    assert make(folders) == []


def test_a_file_half_written_by_a_killed_run_is_no_obstacle(folders: Folders) -> None:
    folders.admin.mkdir()
    (folders.admin / ".postgres_password.new").write_text("hal")
    assert "postgres_password" in make(folders)
    assert len((folders.admin / "postgres_password").read_text()) == 32


WEAK = [
    "",
    "short",
    "postgres",
    "Password123!",
    "changeme2026...",
    "aaaaaaaaaaaaaaaa",
    "abababababababab",
    "bindery-2026",
]


@pytest.mark.parametrize("value", WEAK)
def test_weak_passwords_are_refused_with_the_file_and_the_fix(value: str) -> None:
    with pytest.raises(WeakSecretError) as caught:
        refuse_weak(Path("/run/x/operator_password"), value)
    assert str(caught.value).startswith("/run/x/operator_password holds a weak password")
    assert "Delete the file, and a strong one is made" in str(caught.value)
    assert value not in str(caught.value) or not value
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["postgres_password", "postgres_owner_password", "operator_password"])
@pytest.mark.parametrize("value", ["changeme", "", "\n"])
def test_a_weak_password_that_somebody_put_there_ends_the_start(folders: Folders, name: str, value: str) -> None:
    folders.admin.mkdir()
    (folders.admin / name).write_text(value)
    with pytest.raises(WeakSecretError, match=name):
        make(folders)
    assert (folders.admin / name).read_text() == value


def command(*words: str, value: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(secrets_command, list(words), input=value)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def options(folders: Folders) -> list[str]:
    places = {each: folders.admin.with_name(each) for each in ("admin", "steps", "front", "gui", "registry")}
    return [word for name, path in places.items() for word in (f"--{name}", str(path))]


def test_the_command_says_how_many_it_made_and_shows_none(folders: Folders) -> None:
    code, said = command("init", *options(folders))
    assert (code, said) == (0, "made 15 secrets\n")
    assert command("init", *options(folders)) == (0, "every secret is there\n")


def test_the_logins_are_shown_on_request_alone(folders: Folders) -> None:
    code, said = command("password", "--admin", str(folders.admin))
    assert code == 1
    assert "`docker compose up` makes it" in said
    make(folders)
    code, said = command("password", "--admin", str(folders.admin))
    operator, viewer = (line.split() for line in said.splitlines())
    assert (code, operator[:2], viewer[:2]) == (
        0,
        ["operator", (folders.admin / "operator_password").read_text()],
        ["viewer", (folders.admin / "viewer_password").read_text()],
    )


def test_a_secret_for_a_card_is_read_from_standard_input(folders: Folders) -> None:
    done = CliRunner().invoke(
        secrets_command, ["set", "SHOP_TOKEN", "--steps", str(folders.steps)], input="t0ken value\n"
    )
    (path,) = folders.steps.iterdir()
    assert (done.exit_code, done.output) == (0, f"kept SHOP_TOKEN in {path}; steps read it from now on\n")
    assert (path.name, path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("shop_token", "t0ken value\n", 0o600)
    for words, value in ((["set", "../x"], "v\n"), (["set", "X"], "\n")):
        assert CliRunner().invoke(secrets_command, [*words, "--steps", str(folders.steps)], input=value).exit_code == 1
    assert first_secrets.LEAST_LENGTH == 12


def test_a_secret_is_kept_where_cards_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("BINDERY_ENVIRONMENT", "local")
    monkeypatch.setenv("BINDERY_DATA_DIR", str(data))
    monkeypatch.delenv("BINDERY_SECRETS_DIR", raising=False)
    code, said = command("set", "WEATHER_KEY", value="k3y\n")
    assert (code, said) == (0, f"kept WEATHER_KEY in {data / 'secrets' / 'weather_key'}; steps read it from now on\n")
    assert get_settings().resolve_secret("WEATHER_KEY").get_secret_value() == "k3y"

    monkeypatch.setenv("BINDERY_SECRETS_DIR", str(tmp_path / "mine"))
    assert command("set", "WEATHER_KEY", value="other\n")[0] == 0
    assert get_settings().resolve_secret("WEATHER_KEY").get_secret_value() == "other"


def test_containers_keep_it_in_the_volume_and_tasks_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BINDERY_SECRETS_DIR", raising=False)
    monkeypatch.setenv("BINDERY_ENVIRONMENT", "docker")
    assert folder_of_secrets(Settings()) == STEPS
    monkeypatch.setenv("BINDERY_ENVIRONMENT", "ecs")
    code, said = command("set", "WEATHER_KEY", value="k3y\n")
    assert code == 1
    assert "BINDERY_SECRETS_FROM" in said
    (tmp_path / "file").write_text("")
    code, said = command("set", "K", "--steps", str(tmp_path / "file"), value="v\n")
    assert code == 1
    assert "docker compose run --rm --no-deps -T secrets bindery secrets set K" in said
