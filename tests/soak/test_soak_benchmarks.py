"""The benchmark programs that make whole runs, at a tiny size: a minute each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_benchmarks import LONG, measures_what_it_says

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("name", LONG)
def test_a_long_program_measures_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measures_what_it_says(name, tmp_path, monkeypatch)
