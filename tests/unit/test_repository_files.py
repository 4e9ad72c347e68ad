"""Rules about files that no linter knows: length, names, who reads the environment, what a test may do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run import ROOT, tracked_files

MAX_LINES = 500
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
PYTHON_FILES = tracked_files(".py")


def syntax_tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), name)


def environment_reads(tree: ast.AST) -> Iterator[str]:
    """Yield every way in which code reaches the process's environment, with its line."""
    reads = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in reads:
                yield f"line {node.lineno}: os.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if node.module == "os" and names & reads:
                yield f"line {node.lineno}: from os import {', '.join(sorted(names & reads))}"
            if (node.module or "").split(".")[0] == "dagster" and "EnvVar" in names:
                yield f"line {node.lineno}: dagster.EnvVar"


def given_up(tree: ast.AST) -> Iterator[str]:
    """Yield what would let a test end without having shown anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip", "skipTest"}:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_the_python_files_are_found() -> None:
    assert "dagster_project/__init__.py" in PYTHON_FILES
    assert "tests/unit/test_repository_files.py" in PYTHON_FILES


def test_no_python_file_is_longer_than_a_person_reads() -> None:
    lengths = {name: (ROOT / name).read_bytes().count(b"\n") for name in PYTHON_FILES}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_names_say_what_is_inside() -> None:
    vague = [name for name in PYTHON_FILES if set(Path(name).with_suffix("").parts) & VAGUE_NAMES]
    assert not vague


def test_every_module_says_what_belongs_in_it() -> None:
    # ruff asks for a docstring; a module's has to be more than its name said again.
    short = {}
    for name in PYTHON_FILES:
        docstring = ast.get_docstring(syntax_tree(name)) or ""
        if len(docstring.split()) < 5:
            short[name] = docstring
    assert not short


# The second is no module of ours but a program of dbt's Python: it sets what each call brings along.
MAY_READ_THE_ENVIRONMENT = {"dagster_project/settings/environment.py", "dagster_project/dbt_assets/preloaded.py"}


def test_only_settings_reads_the_environment() -> None:
    readers = {
        name: found
        for name in PYTHON_FILES
        if name.startswith("dagster_project/") and name not in MAY_READ_THE_ENVIRONMENT
        if (found := list(environment_reads(syntax_tree(name))))
    }
    assert not readers


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ['HOME']",
        "import os\nos.getenv('HOME')",
        "from os import environ",
        "from dagster import EnvVar",
        "import os\nos.environ.setdefault('A', 'b')",
    ],
)
def test_each_way_to_read_the_environment_is_seen(code: str) -> None:
    assert list(environment_reads(ast.parse(code)))


def test_no_test_gives_up() -> None:
    tests = [name for name in PYTHON_FILES if name.startswith("tests/") and name != "tests/run.py"]
    found = {name: lines for name in tests if (lines := list(given_up(syntax_tree(name))))}
    assert not found


@pytest.mark.parametrize(
    "code", ["import pytest\npytest.skip('x')", "@pytest.mark.xfail\ndef f(): ...", "pytest.importorskip('x')"]
)
def test_each_way_to_give_up_is_seen(code: str) -> None:
    assert list(given_up(ast.parse(code)))


def test_sql_and_yaml_of_dbt_lie_side_by_side() -> None:
    models = [Path(name) for name in tracked_files(".sql") if name.startswith("dbt_project/models/")]
    assert models, "no dbt model found"
    assert not [str(model) for model in models if not (ROOT / model.with_suffix(".yml")).is_file()]


def test_no_file_is_executable_by_accident() -> None:
    scripts = [name for name in tracked_files() if (ROOT / name).stat().st_mode & 0o111]
    assert not [name for name in scripts if not re.match(rb"#!/", (ROOT / name).read_bytes()[:3])]
