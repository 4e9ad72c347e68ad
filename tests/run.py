"""What ``make test`` runs: the static checks and every suite that needs no Docker, added up in one closing line.

Each static check counts as one test. Nothing may be skipped: a skipped test has shown nothing, so it fails the run as
a failed one does. What the checks demand stands in their own configuration (pyproject.toml, .sqlfluff, .yamllint,
.secrets.baseline); this file only starts them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BUDGET_S = 300
"""`make test` on a warm environment and 2 cores."""

Command = Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Counts:
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add up two suites."""
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    @property
    def good(self) -> bool:
        """Whether something ran and all of it passed."""
        return self.passed > 0 and not self.failed and not self.skipped

    def __str__(self) -> str:
        """Give the closing line."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def static_checks() -> dict[str, Command]:
    """Return the static checks by name, slowest first; each command is built when it is started."""
    return {
        "mypy": lambda: ["mypy"],
        "sqlfluff": lambda: ["sqlfluff", "lint", "--disable-progress-bar", "dbt_project"],
        "secrets": lambda: ["detect-secrets-hook", "--no-verify", "--baseline", ".secrets.baseline", *tracked_files()],
        "imports": lambda: ["lint-imports", "--no-logo"],
        "yaml": lambda: ["yamllint", "--strict", *tracked_files(".yml", ".yaml")],
        "ruff": lambda: ["ruff", "check"],
        "format": lambda: ["ruff", "format", "--check"],
        "lock": lambda: ["uv", "lock", "--check", "--offline"],
        "docker": lambda: ["hadolint", *(name for name in tracked_files() if Path(name).name.startswith("Dockerfile"))],
        "shell": lambda: ["bash", "-n", "tools/install.sh", ".ci/run"],
    }


def tracked_files(*suffixes: str) -> list[str]:
    """List the files under version control, or all outside hidden folders where the clone has no history."""
    listed = subprocess.run(
        ["git", "-c", "core.quotePath=false", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        names = [str(path) for path in paths if not any(part.startswith(".") for part in path.parts[:-1])]
    return [name for name in names if (ROOT / name).is_file() and (not suffixes or name.endswith(suffixes))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and print the closing line.

    Args:
        arguments: command line without the program's name; what is not known here goes to pytest.

    Returns:
        Exit status: 0 when something ran and all of it passed.
    """
    names = list(static_checks())
    parser = argparse.ArgumentParser(prog="python -m tests.run", description="Static checks and tests in one go.")
    parser.add_argument("--static", action="store_true", help="the static checks alone")
    parser.add_argument("--tests", action="store_true", help="the tests alone")
    parser.add_argument("--only", action="append", choices=names, help="of the static checks, these")
    parser.add_argument("--except", dest="without", action="append", choices=names, default=[], help="not these")
    options, rest = parser.parse_known_args(arguments)

    started = time.monotonic()
    chosen = [] if options.tests else [name for name in options.only or names if name not in options.without]
    if options.static:
        counts = run_static(chosen, at_once=2)
    else:
        # Tests wait a lot: for servers, for processes they killed, for the other end. The checks only compute.
        said: list[str] = []
        with ThreadPoolExecutor(max_workers=1) as beside:
            static = beside.submit(run_static, chosen, at_once=1, say=said.append)
            counts = run_pytest(rest)
            counts += static.result()
        print(*said, sep="\n")
        seconds = time.monotonic() - started
        if seconds > BUDGET_S:
            print(f"took {seconds:.0f} s, over the budget of {BUDGET_S} s: see the slowest tests above")
        else:
            print(f"took {seconds:.0f} s of {BUDGET_S} s")
    print(counts, flush=True)
    return 0 if counts.good else 1


def run_static(names: Sequence[str], at_once: int, say: Callable[[str], None] = print) -> Counts:
    """Run static checks, so many at once, and say one line for each, with its output where it fails."""
    checks = static_checks()
    counts = Counts()
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        for passed in pool.map(lambda name: run_check(name, checks[name], say), names):
            counts += Counts(passed=1) if passed else Counts(failed=1)
    return counts


def run_check(name: str, command: Command, say: Callable[[str], None]) -> bool:
    """Run one static check; tell whether it passed."""
    started = time.monotonic()
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    result = subprocess.run(
        list(command()), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = f"\n{result.stdout}" if result.returncode else ""
    mark = "FAILED" if result.returncode else "ok"
    say(f"{mark:7}{name:10}{time.monotonic() - started:6.1f} s{said}")
    return result.returncode == 0


def run_pytest(arguments: Sequence[str]) -> Counts:
    """Run the suites, one worker more than there are cores, and count from pytest's own report."""
    workers = str(min(os.cpu_count() or 1, 4) + 1)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(os.environ.get("JUNIT_XML") or Path(folder) / "report.xml")
        command = [
            "-n",
            workers,
            "--dist",
            "loadfile",
            "--no-loadscope-reorder",
            "--durations",
            "10",
            "--durations-min",
            "5",
            "-q",
        ]
        command += ["--junitxml", str(report), *arguments]
        # Not handed on: tests of this runner have reports of their own.
        environment = {name: value for name, value in os.environ.items() if name != "JUNIT_XML"}
        code = subprocess.run(
            [sys.executable, "-m", "pytest", *command], cwd=ROOT, env=environment, check=False
        ).returncode
        if not report.exists():
            return Counts(failed=1)
        suites = ET.parse(report).getroot().iter("testsuite")
        counts = sum((counts_of(suite) for suite in suites), Counts())
    # An error outside any test (a broken conftest, a crashed worker) fails the run without a failed test.
    return counts if code == 0 or counts.failed else counts + Counts(failed=1)


def counts_of(suite: ET.Element) -> Counts:
    """Read one suite's numbers from a JUnit report."""
    tests, failures, errors, skipped = (
        int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return Counts(tests - failed - skipped, failed, skipped)


if __name__ == "__main__":
    sys.exit(main())
