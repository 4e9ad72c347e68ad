"""Files as a source of settings: the layouts of Docker, Kubernetes and Vault Agent, rotation, damage."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dagster_project.settings import MissingSettingError, Settings, SettingsError
from dagster_project.settings.secret_files import parse_dotenv, read_folder, write_secret


def kubernetes_write(folder: Path, version: str, files: dict[str, str]) -> None:
    """Do as the kubelet does: a new folder, then one atomic swap of the link ..data."""
    folder.mkdir(exist_ok=True)
    real = folder / f"..{version}"
    real.mkdir()
    for name, text in files.items():
        (real / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    new = folder / "..data_tmp"
    new.symlink_to(real.name)
    new.rename(folder / "..data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


@pytest.fixture
def found(folder: Path) -> Settings:
    return Settings(secrets_dir=folder)


def test_docker_one_file_one_secret(folder: Path, found: Settings) -> None:
    folder.mkdir()
    (folder / "gutenberg_token").write_text("  two words \n\n")
    (folder / "API-KEY").write_text("k")
    assert found.resolve_secret("GUTENBERG_TOKEN").get_secret_value() == "  two words \n"
    assert found.resolve_secret("API_KEY").get_secret_value() == "k"


def test_a_settings_field_comes_from_the_folder(folder: Path) -> None:
    folder.mkdir()
    (folder / "database_url").write_text("postgresql://u:p@h/d\n")
    url = Settings(secrets_dir=folder).database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:p@h/d"


def test_kubernetes_and_its_rotation(folder: Path, found: Settings) -> None:
    kubernetes_write(folder, "2024_01", {"token": "old", "database_url": "postgresql://old"})
    assert found.resolve_secret("TOKEN").get_secret_value() == "old"
    kubernetes_write(folder, "2024_02", {"token": "new", "database_url": "postgresql://new"})
    assert found.resolve_secret("TOKEN").get_secret_value() == "new"
    assert set(read_folder(folder).values) == {"token", "database_url"}


def test_kubernetes_swaps_never_show_a_mixture(folder: Path) -> None:
    kubernetes_write(folder, "0", {"a": "0", "b": "0"})
    stop = threading.Event()
    written = 0

    def rotate() -> None:
        nonlocal written
        while not stop.is_set():
            written += 1
            kubernetes_write(folder, str(written), {"a": str(written), "b": str(written)})
            stop.wait(0.002)

    thread = threading.Thread(target=rotate)
    thread.start()
    seen = set()
    try:
        for _ in range(300):
            values = read_folder(folder).values
            assert values["a"][0] == values["b"][0]
            seen.add(values["a"][0])
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 1


def test_docker_rotation_by_rename_and_in_place(folder: Path, found: Settings) -> None:
    folder.mkdir()
    (folder / "token").write_text("one")
    assert found.resolve_secret("TOKEN").get_secret_value() == "one"
    # The same size and time: only the inode tells.
    times = (folder / "token").stat()
    (folder / "new").write_text("two")
    os.utime(folder / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    (folder / "new").rename(folder / "token")
    assert found.resolve_secret("TOKEN").get_secret_value() == "two"
    (folder / "token").write_text("three")
    assert found.resolve_secret("TOKEN").get_secret_value() == "three"
    (folder / "token").unlink()
    with pytest.raises(MissingSettingError):
        found.resolve_secret("TOKEN")


def test_vault_agents_files_hold_several(folder: Path, found: Settings) -> None:
    folder.mkdir()
    (folder / "app.env").write_text('export GUTENBERG_TOKEN="a b#c"\nSHOP_KEY=plain # comment\n')
    (folder / "db.json").write_text('{"reader_key": "r", "number": 5}')
    assert found.resolve_secret("GUTENBERG_TOKEN").get_secret_value() == "a b#c"
    assert found.resolve_secret("SHOP_KEY").get_secret_value() == "plain"
    assert found.resolve_secret("READER_KEY").get_secret_value() == "r"
    assert found.resolve_secret("NUMBER").get_secret_value() == "5"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("token", b"\xff\xfe", "token.*utf-8"),
        ("token", b"x" * 1_000_001, "larger than"),
    ],
)
def test_a_damaged_secret_fails_by_name_and_alone(
    folder: Path, found: Settings, name: str, content: bytes, reason: str
) -> None:
    folder.mkdir()
    (folder / name).write_bytes(content)
    (folder / "other").write_text("fine")
    assert found.resolve_secret("OTHER").get_secret_value() == "fine"
    with pytest.raises(SettingsError, match=reason):
        found.resolve_secret(name.upper())


def test_the_environment_and_its_files_come_before_the_folder(
    folder: Path, found: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    (folder / "token").write_text("folder")
    (tmp_path / "t").write_text("file")
    monkeypatch.setenv("TOKEN_FILE", str(tmp_path / "t"))
    assert found.resolve_secret("TOKEN").get_secret_value() == "file"
    (tmp_path / "t").write_text("rotated")
    assert found.resolve_secret("TOKEN").get_secret_value() == "rotated"
    monkeypatch.setenv("TOKEN", "environment")
    assert found.resolve_secret("TOKEN").get_secret_value() == "environment"


def test_a_written_secret_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    write_secret(path, "v")
    write_secret(path, "w")
    assert path.read_text() == "w\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def test_dotenv_lines_as_a_shell_reads_them() -> None:
    text = '\n# c\nA=1\nexport B = \'x # y\'\nC="q\\"z" # c\nD=a#b\nE=a # b\nF=\n'
    assert parse_dotenv(text, Path("f")) == {"A": "1", "B": "x # y", "C": 'q"z', "D": "a#b", "E": "a", "F": ""}
    for bad in ("A", "=1", "A B=1", "A='x"):
        with pytest.raises(ValueError, match="f:1"):
            parse_dotenv(bad, Path("f"))
