"""What people get wrong at the terminal, and what they are told: names, cards, answers, revisions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project import sample
from dagster_project.settings import Settings
from tests.integration.installation import BINDERY, Installation, installation

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def place(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with installation(server_settings, admin, tmp_path_factory.mktemp("mistakes"), "mistakes") as made:
        assert made.quick("db", "migrate").returncode == 0
        yield made


@pytest.mark.parametrize("command", [["quarantine"], ["state", "show"], ["loads"], ["state", "reset"]])
def test_a_source_that_is_not_there_is_no_empty_answer(place: Installation, command: list[str]) -> None:
    for target, said in [
        ("gutenburg", "Did you mean 'gutenberg'?"),
        ("gutenberg.boks", "there are: gutenberg.books"),
    ]:
        done = place.quick(*command, target)
        assert done.returncode == 2, done.stdout
        assert said in done.stderr


def test_a_source_without_its_card_has_its_history_still(place: Installation, tmp_path: Path) -> None:
    card = tmp_path / "defs.yaml"
    card.write_text(
        "type: dagster_project.components.FileSource\nattributes:\n  source: gone\n"
        f"  path: {tmp_path}\n  settle: 0s\n  streams: [{{name: rows, files: ['*.csv']}}]\n"
    )
    (tmp_path / "a.csv").write_text("id\n1\n")
    assert place.quick("run", "--card", str(card)).returncode == 0
    done = place.quick("loads", "gone.rows")
    assert done.returncode == 0, done.stderr
    assert "gone" in done.stdout
    assert place.quick("loads", "gone.nosuch").returncode == 2


def typed(place: Installation, answer: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BINDERY, "state", "reset", "gutenberg"],
        env=place.environment,
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
    )


def python(place: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", *arguments], env=place.environment, capture_output=True, text=True, timeout=100
    )


def test_no_is_an_answer(place: Installation) -> None:
    assert typed(place, "n\n").stdout.endswith("nothing was forgotten\n")
    assert typed(place, "n\n").returncode == 0
    assert typed(place, "").returncode == 1, "nobody answered"


def test_the_world_stays_where_it_was(place: Installation) -> None:
    folder = place.settings.data_dir / "sample"
    assert place.quick("world", "start", REVISION="2").returncode == 0
    again = place.quick("world", "start")
    assert "revision 2, as before; REVISION=1 goes back" in again.stderr
    assert place.quick("world", "stop").returncode == 0
    assert "revision 2" in place.quick("world", "start").stderr, "a stopped one too"
    world = sample.status(folder)
    assert world is not None
    assert world.revision == 2
    assert place.quick("world", "start", REVISION="1").returncode == 0
    world = sample.status(folder)
    assert world is not None
    assert world.revision == 1


def test_a_run_of_everything_refuses_a_card_in_a_line(place: Installation, tmp_path: Path) -> None:
    """In a copy of the package, because the platform's cards are part of it."""
    package = Path(sample.__file__).parents[1]
    shutil.copytree(package, tmp_path / "dagster_project", ignore=shutil.ignore_patterns("__pycache__"))
    card = tmp_path / "dagster_project" / "defs" / "gutenberg" / "defs.yaml"
    card.write_text(card.read_text().replace("primary_key", "primry_key"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from dagster_project.cli import main; main()"
    done = python(place, code, "run")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert f"{card}:" in done.stderr
    assert "did you mean `primary_key`?" in done.stderr
    other = python(place, code, "run", "uploads")
    assert other.returncode == 0, other.stderr
    assert f"{card} has mistakes" in other.stderr
