"""The closing line of ``make test``: what counts, and what may not pass for a success."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.run import ROOT, Counts, counts_of, run_pytest, static_checks


def test_the_closing_line_names_all_three() -> None:
    assert str(Counts(3, 1) + Counts(4, 0, 2)) == "7 passed, 1 failed, 2 skipped"


@pytest.mark.parametrize(
    ("counts", "good"),
    [
        (Counts(1), True),
        (Counts(), False),
        (Counts(5, failed=1), False),
        (Counts(5, skipped=1), False),
    ],
)
def test_only_a_run_that_shows_everything_is_good(counts: Counts, good: bool) -> None:
    assert counts.good is good


def test_errors_count_as_failures() -> None:
    suite = ET.fromstring('<testsuite tests="10" failures="1" errors="2" skipped="3"/>')
    assert counts_of(suite) == Counts(passed=4, failed=3, skipped=3)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def test_a(): pass\ndef test_b(): assert False", Counts(1, 1)),
        pytest.param("import pytest\n@pytest.fixture\ndef broken(): raise OSError\ndef test_a(broken): pass",
                     Counts(0, 1), marks=pytest.mark.soak),
        ("import unittest\nclass TestA(unittest.TestCase):\n    def test_a(self): raise unittest.SkipTest('no')",
         Counts(0, 0, 1)),
        ("import warnings\ndef test_a(): warnings.warn('old', DeprecationWarning)", Counts(0, 1)),
        pytest.param("def test_a(:", Counts(0, 1), marks=pytest.mark.soak),
    ],
)  # fmt: skip
def test_a_real_run_is_counted(body: str, expected: Counts, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_sample.py").write_text(body)
    arguments = ["--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml"), "-n", "0", "-p", "no:cacheprovider"]
    assert run_pytest([*arguments, str(tmp_path)]) == expected
    capfd.readouterr()


def test_a_run_without_tests_has_failed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_pytest(["-n", "0", "-p", "no:cacheprovider", str(tmp_path)]) == Counts(failed=1)
    capfd.readouterr()


def test_the_static_checks_are_the_promised_ones() -> None:
    promised = {"ruff", "format", "mypy", "imports", "sqlfluff", "yaml", "secrets", "lock", "docker", "shell"}
    assert set(static_checks()) == promised
