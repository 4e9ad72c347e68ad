"""Finding cards by name, among files with mistakes too; the words that commands suggest; lines of progress."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dagster_project.cli import context
from dagster_project.cli.inspect import show
from dagster_project.cli.main import main
from dagster_project.cli.platform import ensure_world, reads_world
from dagster_project.cli.progress import Watcher
from dagster_project.cli.run import tell_shared_names
from dagster_project.cli.scaffold import source as new_source
from dagster_project.ingest.errors import CardError
from dagster_project.ingest.runtime import Progress
from dagster_project.settings import Settings

CARD = """\
type: dagster_project.components.FileSource
attributes:
  source: {source}
  path: drop
  streams:
    - {{name: rows, files: ["*.csv"]}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("good", "odd"):
        path = tmp_path / name / "defs.yaml"
        path.parent.mkdir()
        path.write_text(CARD.format(source=name))
    odd = tmp_path / "odd" / "defs.yaml"
    odd.write_text(odd.read_text().replace("streams", "steams"))
    return tmp_path


def test_a_mistake_stops_its_own_source_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert context.find_card("good", root).source == "good"
    assert f"{root}/odd/defs.yaml has mistakes" in capsys.readouterr().err
    with pytest.raises(CardError, match=r"odd/defs\.yaml:5:3: attributes\.steams") as caught:
        context.find_card("odd", root)
    assert "no source" not in str(caught.value)
    with pytest.raises(CardError, match=r"no source 'goood'; there are: good\. Did you mean 'good'\?") as caught:
        context.find_card("goood", root)
    assert "odd/defs.yaml:5" in str(caught.value), "it may be the one that is meant"


@pytest.mark.parametrize("text", ["type: [", "type: x\n  a: b\n", "\t"])
def test_a_file_that_is_no_yaml_is_known_by_its_folder(root: Path, text: str) -> None:
    (root / "odd" / "defs.yaml").write_text(text)
    assert context.find_card("good", root).source == "good"
    with pytest.raises(CardError, match=r"odd/defs\.yaml"):
        context.find_card("odd", root)


def test_a_run_of_everything_tells_the_mistakes_of_all_files(root: Path) -> None:
    (root / "good" / "defs.yaml").write_text(CARD.format(source="good").replace("path", "pth"))
    with pytest.raises(CardError) as caught:
        context.platform_cards(root)
    assert re.findall(r"/(\w+)/defs\.yaml:\d", str(caught.value)) == ["good", "good", "odd", "odd"]


def test_two_cards_of_one_name_are_refused(root: Path) -> None:
    (root / "odd" / "defs.yaml").write_text(CARD.format(source="good"))
    with pytest.raises(CardError, match=r"odd/defs\.yaml: source 'good' is also in .*good/defs\.yaml: rename one"):
        context.find_card("good", root)


def test_a_card_alone_with_the_platforms_name_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "card.yaml"
    file.write_text(CARD.format(source="uploads"))
    cards = {name: card for name, (_, card) in context.platform_cards().items()}
    tell_shared_names(file, [cards["uploads"]])
    said = capsys.readouterr().err
    assert f"{file}: source 'uploads' is also that of" in said
    assert "defs/uploads/defs.yaml" in said
    tell_shared_names(context.DEFS / "uploads" / "defs.yaml", [cards["uploads"]])
    assert capsys.readouterr().err == "", "it is that card"


def test_a_new_card_says_what_to_type_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = CliRunner().invoke(new_source, ["weather", "--stream", "readings", "--dir", str(tmp_path)])
    assert elsewhere.exit_code == 0, elsewhere.output
    path = tmp_path / "weather" / "defs.yaml"
    assert f"preview --card {path}`" in elsewhere.output
    monkeypatch.setattr("dagster_project.cli.scaffold.DEFS", tmp_path)
    here = CliRunner().invoke(new_source, ["rain", "--stream", "drops", "--type", "files", "--dir", str(tmp_path)])
    assert "preview rain.drops`" in here.output
    assert "--card" not in here.output
    assert "FileSource" in (tmp_path / "rain" / "defs.yaml").read_text()
    assert CliRunner().invoke(new_source, ["snow", "--type", "ftp"]).exit_code == 2


def test_commands_are_named_so_that_they_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / ".venv" / "bin" / "bindery"
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.chdir(tmp_path)
    assert context.command() == ".venv/bin/bindery"
    monkeypatch.chdir("/")
    assert context.command() == str(program).lstrip("/")
    monkeypatch.setattr("shutil.which", lambda _name: str(program))
    assert context.command() == "bindery"


def test_the_last_line_of_a_stage_is_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with Watcher(as_json=False) as watcher:
        for rows in (10, 30, 57):
            watcher(Progress("s", "fetch", "rows", rows=rows))
        watcher(Progress("s", "copy", "rows", rows=1))
        watcher(Progress("s", "copy", "rows", rows=57))
    assert capsys.readouterr().err.splitlines() == [
        "s.rows: fetch · 10 rows",
        "s.rows: fetch · 57 rows",
        "s.rows: copy · 1 row",
        "s.rows: copy · 57 rows",
    ]


def test_streams_are_told_before_their_source_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Watcher(as_json=False) as watcher:
        watcher(Progress("s", "fetch", "rows", requests=1))
        watcher(Progress("s", "fetch", "rows", "sealed", rows=2, requests=1))
        watcher(Progress("other", "fetch", "rows"))
        watcher(Progress("other", "fetch", "rows", "sealed", requests=2, total=3))
        watcher(Progress("s", "done", message="fetched"))
    assert capsys.readouterr().err.splitlines() == [
        "s.rows: fetch · 1 request",
        "other.rows: fetch",
        "s.rows: fetch · 2 rows · 1 request · sealed",
        "s: done · fetched",
        "other.rows: fetch · 2 of 3 requests · sealed",
    ]


def test_the_sample_world_is_only_for_those_who_read_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("dagster_project.cli.platform.start_world", lambda settings: started.append(settings.sources))
    theirs = {name: card for name, (_, card) in context.platform_cards().items()}
    assert all(map(reads_world, theirs.values()))
    own = context.find_card("good", root)
    ensure_world(Settings(), [own])
    assert not started
    for cards in ([own, theirs["uploads"]], None):
        ensure_world(Settings(), cards)
    assert started == ["sample"] * 2


def test_help_and_tables_wrap_and_cut_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    assert "..." not in said.partition("Commands:")[2]
    assert "after a fix of the card, or to take rows out of quarantine." in " ".join(said.split())
    assert max(map(len, said.splitlines())) <= 110
    origin = "/data/drop/" + "a-long-name-of-a-file/" * 12 + "ratings.csv"
    show([{"id": 1, "object": origin, "error": "word " * 60}], False, "none")
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "ratings.csv" in shown
    assert shown.count("word") == 60


def test_bindery_check_costs_no_orchestrator() -> None:
    read = "from dagster_project.cli.context import platform_cards; platform_cards()"
    code = f"import sys; {read}; print('dagster' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
