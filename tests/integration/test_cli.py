"""The commands that the README and the guides show, as a person at a terminal gives them, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.integration.installation import Installation, installation

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.timeout(180)

FILE_CARD = """\
type: dagster_project.components.FileSource
attributes:
  source: shelf
  path: {folder}
  settle: 0s
  streams:
    - name: books
      files: ["*.csv"]
      primary_key: id
      write: merge
      columns: {{id: {{type: bigint}}, price: {{type: numeric}}}}
      expect: {{max_quarantined: 1}}
"""


@pytest.fixture(scope="module")
def place(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with installation(server_settings, admin, tmp_path_factory.mktemp("cli"), "cli") as made:
        for command in (("db", "migrate"), ("world", "start")):
            done = made.quick(*command)
            assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "defs.yaml"
    path.write_text(FILE_CARD.format(folder=tmp_path))
    (tmp_path / "1.csv").write_text("id,title,price\n1,Dracula,0.50\n2,Emma,cheap\n")
    return path


def said(done: Any) -> str:
    return f"{done.stdout}\n{done.stderr}"


def test_check_finds_the_shipped_cards_good(place: Installation) -> None:
    done = place.bindery("check")
    assert done.returncode == 0, said(done)
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"bookshop", "gutenberg", "uploads"}


def test_check_names_file_line_and_field_of_a_mistake(place: Installation, card: Path) -> None:
    card.write_text(card.read_text().replace("primary_key", "primry_key"))
    done = place.quick("check", str(card))
    assert done.returncode == 2
    assert f"{card}:9" in done.stderr
    assert "primry_key" in done.stderr
    assert "primary_key" in done.stderr, "the word that was meant"


def test_preview_shows_rows_and_writes_nothing(place: Installation) -> None:
    done = place.quick("preview", "gutenberg.books", "--limit", "2", "--json")
    assert done.returncode == 0, said(done)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2
    assert all(isinstance(row["id"], int) for row in rows)


def test_a_source_is_run_looked_into_and_replayed(place: Installation) -> None:
    first = place.quick("run", "uploads")
    assert first.returncode == 0, said(first)
    assert "6 quarantined" in first.stdout
    again = place.quick("run", "uploads")
    assert again.returncode == 0, said(again)
    assert "nothing new" in again.stdout
    refused = place.quick("quarantine", "uploads.ratings", "--json")
    assert len(refused.stdout.splitlines()) == 6, said(refused)
    before = place.content()["raw.uploads__ratings"]
    replayed = place.quick("replay", "uploads")
    assert replayed.returncode == 0, said(replayed)
    assert place.content()["raw.uploads__ratings"] == before
    loads = [json.loads(line) for line in place.quick("loads", "uploads", "--json").stdout.splitlines()]
    assert [load["kind"] for load in loads] == ["replay", "load"]
    state = place.quick("state", "show", "uploads", "--json")
    assert json.loads(state.stdout.splitlines()[0])["waiting_batches"] == 0


def test_a_cursor_is_shown_and_forgotten(place: Installation) -> None:
    assert place.quick("run", "gutenberg").returncode == 0
    shown = place.quick("state", "show", "gutenberg", "--json")
    assert "updated_at" in json.loads(shown.stdout)["loaded_cursor"]
    reset = place.quick("state", "reset", "gutenberg", "--yes")
    assert reset.returncode == 0, said(reset)
    again = place.quick("run", "gutenberg")
    assert "388 rows read" in again.stdout
    assert "388 unchanged" in again.stdout


def test_a_card_alone_and_its_exit_codes(place: Installation, card: Path) -> None:
    dry = place.quick("run", "--card", str(card), "--dry-run")
    assert dry.returncode == 0, said(dry)
    assert "Dracula" in dry.stdout
    assert "nothing was written" in dry.stdout
    assert "raw.shelf__books" not in place.content()
    done = place.quick("run", "--card", str(card))
    assert done.returncode == 0, said(done)
    assert "1 quarantined" in done.stdout
    card.with_name("2.csv").write_text("id,title,price\n3,Ulysses,x\n4,Persuasion,y\n5,Walden,z\n")
    refused = place.quick("run", "--card", str(card))
    assert refused.returncode == 4, said(refused)
    assert place.content()["raw.shelf__books"][0] == 1, "nothing of a refused load is kept"
    assert place.quick("run", "--card", str(card), "--database", "postgresql://x@127.0.0.1:9/x").returncode == 5
    assert place.quick("run", "nowhere").returncode == 2
    down = place.quick("run", "gutenberg", BINDERY_GUTENBERG_URL="http://127.0.0.1:9/api")
    assert down.returncode == 3, said(down)
    assert "127.0.0.1:9" in down.stderr


def test_a_new_card_passes_its_own_check(place: Installation, tmp_path: Path) -> None:
    for kind in ("rest", "web", "file"):
        made = place.quick("new", "source", f"fresh_{kind}", "--type", kind, "--dir", str(tmp_path))
        assert made.returncode == 0, said(made)
        path = tmp_path / f"fresh_{kind}" / "defs.yaml"
        checked = place.quick("check", str(path))
        assert checked.returncode == 0, said(checked)
        assert place.quick("new", "source", f"fresh_{kind}", "--dir", str(tmp_path)).returncode == 2, "never overwrites"


@pytest.mark.soak
def test_prove_proves(place: Installation) -> None:
    done = place.bindery("prove", "--seed", "7")
    assert done.returncode == 0, said(done)
    assert "same tables" in done.stdout
    assert done.stdout.count("kill -9 at") == 5
