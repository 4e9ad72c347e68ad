"""How a run of the whole graph is summed up: what a person reads at its end, and with which code it ends."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.cli.graph import show_summary
from dagster_project.operations.blame import explained
from dagster_project.operations.summary import AssetResult, Collector, RunSummary, StepFailure
from dagster_project.settings import Settings


def _summary(*statuses: str, **fields: object) -> RunSummary:
    assets = [AssetResult(f"s/a{number}", "g", f"s__a{number}", status) for number, status in enumerate(statuses)]
    return RunSummary("run", database="bindery", debug_rows=0, assets=assets, seconds=1.0, **fields)  # type: ignore[arg-type]


def _failure(code: int) -> StepFailure:
    return StepFailure("s__a1", ("s/a1",), "KeyError: 'decadee'", code)


def _said(summary: RunSummary, capsys: pytest.CaptureFixture[str]) -> str:
    show_summary(summary, Settings(), as_json=False)
    return capsys.readouterr().out


def test_the_last_line_counts_assets_and_checks_apart(capsys: pytest.CaptureFixture[str]) -> None:
    summary = _summary("done", "failed", "failed", "skipped", failures=[_failure(1)])
    summary.assets[0].passed = 165
    assert (
        "1 of 4 assets done, 2 failed, 1 skipped; checks: 165 passed, 0 warned, 0 failed; 1.0 s, database bindery\n"
        in (_said(summary, capsys))
    )
    assert "1 of 1 assets done; checks: 0 passed" in _said(_summary("done", finished=True), capsys)


@pytest.mark.parametrize(
    ("codes", "expected"), [([1], 1), ([5], 5), ([1, 5], 1), ([5, 1, 4], 1), ([3, 1], 3), ([2, 3], 2), ([4, 5], 5)]
)
def test_a_database_code_does_not_hide_a_fault_of_another_kind(codes: list[int], expected: int) -> None:
    assert _summary("failed", failures=[_failure(code) for code in codes]).exit_code == expected


def test_what_to_do_next_is_what_comes_next(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done = _summary("done", finished=True)
    done.assets[0].counts = {"objects": 1, "requests": 2, "inserted": 1}
    show_summary(done, Settings(data_dir=tmp_path, revision=2, sources="sample"), as_json=False)
    said = capsys.readouterr().out
    assert "make run REVISION=3      the sample world moves on" in said
    assert "1 object, 2 requests, 1 inserted" in said
    show_summary(done, Settings(data_dir=tmp_path, sources="live"), as_json=False)
    assert "REVISION" not in capsys.readouterr().out


@pytest.mark.parametrize(("rows", "again"), [(0, "`make run`"), (200, "`make run DEBUG=1`")])
def test_an_interrupted_run_says_how_it_goes_on(capsys: pytest.CaptureFixture[str], rows: int, again: str) -> None:
    summary = _summary("skipped", interrupted=True)
    summary.debug_rows = rows
    assert f"Run again to go on: {again}\n" in _said(summary, capsys)


BOOKS = """\
import dagster as dg

@dg.asset
def books() -> None:
    decades({})

def decades(row: dict[str, int]) -> int:
    return row["decadee"]
"""


def _load(path: Path, text: str) -> object:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("somebodys_assets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_failing_asset_is_told_with_its_line(tmp_path: Path) -> None:
    defs = tmp_path / "dagster_project" / "defs"
    module = _load(defs / "features" / "books.py", BOOKS)
    done = dg.materialize([module.books], raise_on_error=False)  # type: ignore[attr-defined]
    (event,) = [event for event in done.all_events if event.is_step_failure]
    summary = _summary("running")
    sign = Collector(summary, {"books": summary.assets}).take(event)
    assert sign is not None
    assert sign.message == "KeyError: 'decadee' (dagster_project/defs/features/books.py:8)"
    assert [failure.message for failure in summary.failures] == [sign.message]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nimport nosuchmodule\n", "2: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("x = 1\ndef f(:\n", "2: SyntaxError: invalid syntax"),
        ("try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error\n", "4: ValueError: b"),
    ],
)
def test_a_file_that_does_not_load_is_told_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    defs = tmp_path / "dagster_project" / "defs"
    with pytest.raises((ImportError, SyntaxError, ValueError)) as caught:
        _load(defs / "features" / "books.py", text)
    wrapped = RuntimeError("the definitions can't be loaded")
    wrapped.__cause__ = caught.value
    found = explained(wrapped, defs)
    assert str(found) == f"dagster_project/defs/features/books.py:{said}"
    assert found is not None
    assert found.exit_code == 2
    assert explained(wrapped, tmp_path / "elsewhere" / "other") is None, "a fault of ours keeps its traceback"
