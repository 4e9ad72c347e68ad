"""A small project with the real installer and build backend in it, and clones of it to install into.

Its lock was made from one index, and every install uses another one that only pip's variables name, as behind a
company's mirror.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.package_index import PackageIndex, tiny_wheel, uv_wheel
from tests.run import ROOT

BASE_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
UV = Path(sys.executable).with_name("uv")
PYPROJECT = """
[project]
name = "bindery"
version = "0.1.0"
requires-python = ">=3.11,<3.15"
dependencies = ["tinylib"]
scripts = { bindery = "dagster_project:main" }
[dependency-groups]
laptop = ["tinylaptop"]
dbt = ["tinydbt"]
dev = ["tinydev", "uv>=0.9"]
[build-system]
requires = ["uv_build>=0.9,<1"]
build-backend = "uv_build"
[tool.uv]
required-version = ">=0.9,<1"
[tool.uv.build-backend]
module-name = "dagster_project"
module-root = ""
"""
MAIN = "def main():\n    import tinylib, tinylaptop\n    print('runs with', tinylib.NAME, tinylaptop.NAME)\n"


@dataclass
class Clone:
    """A clone of the small project, and the nearly empty environment it is used in."""

    root: Path
    index: PackageIndex
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "tools/install.sh"), *words],
            cwd=self.root,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def install(self, *words: str, expect: int = 0, **variables: str) -> str:
        with self.start(*words, **variables) as process:
            said, _ = process.communicate(timeout=90)
        assert process.returncode == expect, said
        return said

    def has(self, module: str, venv: str = ".venv") -> bool:
        python = self.root / venv / "bin/python"
        return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0

    def runs(self) -> str:
        return subprocess.run(
            [self.root / ".venv/bin/bindery"], capture_output=True, text=True, check=True, env=self.environment
        ).stdout


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def make_wheels(folder: Path) -> Path:
    """Fill a folder with what an index offers."""
    for name in ("tinylib", "tinylaptop", "tinydbt", "tinydev"):
        tiny_wheel(folder, name)
    uv_wheel(folder)
    return folder


def make_original(root: Path, wheels: Path) -> Path:
    """Make the project as committed: locked against an index that is gone by the time of any install."""
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "dagster_project").mkdir()
    (root / "dagster_project/__init__.py").write_text(MAIN)
    with PackageIndex(wheels) as publisher:
        environment = {"PATH": os.defpath, "HOME": str(root.parent), "UV_PYTHON_DOWNLOADS": "never"}
        lock = [str(UV), "lock", "--python", BASE_PYTHON, "--default-index", publisher.url]
        subprocess.run(lock, cwd=root, env=environment, check=True, capture_output=True)
    return root


def make_clone(original: Path, index: PackageIndex, folder: Path) -> Clone:
    """Make a clone on a machine without uv, in a folder that careless scripts stumble over."""
    root = folder / "mein Ordner ä" / "klon"
    shutil.copytree(original, root)
    program(folder / "bin/python3", f'exec "{BASE_PYTHON}" "$@"')
    home = folder / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PIP_INDEX_URL": index.url}
    environment |= {"PYTHON": BASE_PYTHON, "PIP_TRUSTED_HOST": "127.0.0.1", "LANG": "C.UTF-8"}
    return Clone(root, index, environment)
