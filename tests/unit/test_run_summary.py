"""How a run of the whole graph is summed up: what a person reads at its end, and with which code it ends."""

from __future__ import annotations

import pytest

from dagster_project.cli.graph import show_summary
from dagster_project.operations.summary import AssetResult, RunSummary, StepFailure
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
