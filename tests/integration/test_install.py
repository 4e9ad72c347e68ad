"""The installer, run as a user runs it: in a clone of its own, against an index on loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.package_index import PackageIndex
from tests.integration.small_clone import UV, Clone, make_clone, make_original, make_wheels, program


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def original(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_original(tmp_path_factory.mktemp("original") / "project", wheels)


@pytest.fixture
def index(wheels: Path) -> Iterator[PackageIndex]:
    with PackageIndex(wheels) as mirror:
        yield mirror


@pytest.fixture
def bare_clone(original: Path, index: PackageIndex, tmp_path: Path) -> Clone:
    """A clone on a machine without uv."""
    return make_clone(original, index, tmp_path)


@pytest.fixture
def clone(bare_clone: Clone) -> Clone:
    """The same, on a machine with a uv on PATH."""
    (bare_clone.root.parents[1] / "bin/uv").symlink_to(UV)
    return bare_clone


def test_both_environments_get_what_is_theirs(clone: Clone) -> None:
    said = clone.install()

    assert "installing 2 packages into .venv (laptop)" in said
    assert "installing 1 packages into .venv-dbt (dbt)" in said
    assert clone.runs() == "runs with tinylib tinylaptop\n"
    assert not clone.has("tinydev")
    assert not clone.has("tinydbt")
    assert clone.has("tinydbt", ".venv-dbt")
    assert not clone.has("tinylib", ".venv-dbt")
    assert list(clone.root.glob(".venv/lib/*/site-packages/__pycache__/tinylib.*.pyc")), "no bytecode"


@pytest.mark.parametrize("pip", ["works", "is missing"])
def test_uv_is_fetched_into_the_clone_where_it_is_missing(bare_clone: Clone, pip: str, tmp_path: Path) -> None:
    if pip == "is missing":
        broken = tmp_path / "site/pip"
        broken.mkdir(parents=True)
        (broken / "__init__.py").write_text("raise ImportError('No module named pip')")
        bare_clone.environment["PYTHONPATH"] = str(broken.parent)

    bare_clone.install()

    assert bare_clone.runs()
    (private,) = (bare_clone.root / ".venv-tools").glob("uv-*/bin/uv")
    assert private.stat().st_mode & 0o111
    assert not list((tmp_path / "home").glob(".local/**/uv")), "installed outside the clone"
    assert [path for path in bare_clone.index.requests if path.startswith("/files/uv-")]


@pytest.mark.soak
def test_a_uv_that_is_too_old_or_a_dead_shim_is_not_used(bare_clone: Clone, tmp_path: Path) -> None:
    for text in ("echo uv 0.4.30", "exit 127"):
        program(tmp_path / "bin/uv", text)
        bare_clone.install()
        assert list((bare_clone.root / ".venv-tools").glob("uv-*/bin/uv"))
        shutil.rmtree(bare_clone.root / ".venv-tools")
        shutil.rmtree(bare_clone.root / ".venv")


@pytest.mark.soak
def test_a_tampered_uv_is_refused(bare_clone: Clone) -> None:
    bare_clone.index.tampered = {"uv"}
    said = bare_clone.install(expect=1)
    assert "could not get uv" in said
    assert not (bare_clone.root / ".venv").exists()


def test_a_second_install_does_nothing_and_asks_nobody(clone: Clone) -> None:
    clone.install()
    clone.index.requests.clear()
    stamp = clone.root / ".venv/.bindery-installed.json"
    written = stamp.stat().st_mtime_ns

    del clone.environment["PYTHON"]
    assert clone.install() == ""

    assert clone.index.requests == []
    assert stamp.stat().st_mtime_ns == written


@pytest.mark.soak
def test_what_tests_need_is_added_and_stays(clone: Clone) -> None:
    clone.install()
    clone.install("--with", "dev")
    assert clone.has("tinydev")

    pyproject = clone.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + "\n# changed\n")
    assert "(dev, laptop)" in clone.install()
    assert clone.has("tinydev")


def test_a_killed_install_is_healed_by_the_next(clone: Clone) -> None:
    clone.index.held = {"tinylaptop"}
    with clone.start() as process:
        assert clone.index.reached.wait(60), "the install never got to the held package"
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (clone.root / ".venv/.bindery-installed.json").exists()
    clone.index.held.clear()
    clone.index.released.set()

    clone.install()
    assert clone.runs()


@pytest.mark.soak
def test_an_environment_cut_short_while_copying_is_made_anew(clone: Clone) -> None:
    clone.install()
    # What a kill in the middle of copying leaves: uv takes the package for installed, and its module is not there.
    (clone.root / ".venv/.bindery-unfinished").touch()
    (clone.root / ".venv/.bindery-installed.json").unlink()
    next(clone.root.glob(".venv/lib/*/site-packages/tinylib.py")).unlink()

    clone.install()
    assert clone.runs()


def test_two_installs_at_once_both_end_well(clone: Clone) -> None:
    clone.index.held = {"tinylib"}
    with clone.start() as first:
        assert clone.index.reached.wait(60)
        with clone.start() as second:
            assert second.stdout is not None
            assert "another install is running" in second.stdout.readline()
            clone.index.released.set()
            said, _ = first.communicate(timeout=90)
            rest, _ = second.communicate(timeout=90)
    assert (first.returncode, second.returncode) == (0, 0), said + rest
    assert "installing" in said
    assert "installing" not in rest
    assert clone.runs()


@pytest.mark.soak
def test_a_moved_clone_installs_again(clone: Clone) -> None:
    clone.install()
    moved = clone.root.with_name("anderswo")
    clone.root.rename(moved)
    clone.root = moved
    assert "installing" in clone.install()
    assert clone.runs()


def test_a_package_with_other_bytes_is_refused_and_the_next_install_heals(clone: Clone) -> None:
    clone.index.tampered = {"tinylib"}
    said = clone.install(expect=1)
    assert "install failed" in said
    assert re.search(r"[Hh]ash mismatch", said), said

    clone.index.tampered.clear()
    clone.install()
    assert clone.runs()


def test_an_index_that_does_not_answer_is_named_without_its_password(bare_clone: Clone) -> None:
    url = "http://me:geheim@127.0.0.1:9/simple"  # pragma: allowlist secret
    said = bare_clone.install(expect=1, PIP_INDEX_URL=url, PIP_RETRIES="0", PIP_TIMEOUT="2")
    assert "http://***@127.0.0.1:9/simple" in said
    assert "PIP_INDEX_URL" in said
    assert "geheim" not in said


@pytest.mark.parametrize("version", ["3.9.2", "3.15.0", "2.7.18"])
def test_an_unsupported_python_is_refused_in_one_line(bare_clone: Clone, version: str, tmp_path: Path) -> None:
    folder = tmp_path / "only"
    for name in ("python3", "python"):
        program(folder / name, f"echo {version}; exit 3")
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        program(folder / name, "echo 'pyenv: command not found' >&2; exit 127")
    del bare_clone.environment["PYTHON"]
    said = bare_clone.install(expect=2, PATH=str(folder))
    assert len(said.splitlines()) == 1
    assert f"found python3 = {version}, python = {version}" in said
    assert "Fix:" in said


def test_a_machine_without_any_python_is_told_what_to_do(bare_clone: Clone, tmp_path: Path) -> None:
    del bare_clone.environment["PYTHON"]
    said = bare_clone.install(expect=2, PATH=str(tmp_path / "empty"))
    assert "found no working python" in said


def test_a_dead_shim_is_passed_over(clone: Clone, tmp_path: Path) -> None:
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        program(tmp_path / "bin" / name, "exit 127")
    del clone.environment["PYTHON"]
    clone.install()
    assert clone.runs()


def test_the_named_python_is_used_or_refused(clone: Clone, tmp_path: Path) -> None:
    other = program(tmp_path / "other", "echo 3.8.1; exit 3")
    said = clone.install(expect=2, PYTHON=str(other))
    assert f"found {other} = 3.8.1" in said
