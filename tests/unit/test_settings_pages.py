"""The generated pages are those that the model gives now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.settings import Settings
from dagster_project.settings.pages import env_example, markdown
from dagster_project.settings.secret_files import parse_dotenv

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "option", "page"),
    [(".env.example", "--env-example", env_example), ("docs/settings.md", "--markdown", markdown)],
)
def test_the_committed_page_is_current(path: str, option: str, page: object) -> None:
    assert callable(page)
    assert (ROOT / path).read_text() == page(), "run: python -m dagster_project.settings --write"
    command = [sys.executable, "-m", "dagster_project.settings", option]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == page()


def test_every_setting_is_on_both_pages_with_a_description() -> None:
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert f"BINDERY_{name.upper()}=" in env_example()
        assert f"`BINDERY_{name.upper()}`" in markdown()


def test_the_example_uncommented_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.removeprefix("#") for line in env_example().splitlines() if line.startswith("#BINDERY_")]
    assert len(parse_dotenv("\n".join(lines), Path("example"))) == len(Settings.model_fields)
    before = Settings()
    (tmp_path / "env").write_text("\n".join(lines))
    monkeypatch.setenv("BINDERY_ENV_FILE", str(tmp_path / "env"))
    assert Settings() == before
