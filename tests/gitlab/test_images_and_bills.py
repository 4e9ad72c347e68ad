"""What the built images are made of: bills of materials that tell the truth, and no secret in any layer."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from tests.docker.stack import docker
from tests.run import ROOT

pytestmark = pytest.mark.timeout(300)
SECRET_FILES = re.compile(
    r"(^|/)(\.env|\.netrc|\.pypirc|\.pgpass|pgpass|id_(rsa|ed25519|ecdsa)|\.git/.*|\.docker/.*|htpasswd|pip\.conf|"
    r"\.aws/.*|[^/]*\.(key|p12|pfx)|.*_password)$"
)


def components(path: Path) -> dict[str, dict[str, str]]:
    """Give each component's version, by ecosystem and name."""
    found: dict[str, dict[str, str]] = {}
    for each in json.loads(path.read_text())["components"]:
        kind = re.match(r"pkg:(\w+)/", each.get("purl", ""))
        found.setdefault(kind[1] if kind else "none", {})[each["name"]] = each["version"]
    return found


def inside(image: str, *words: str) -> str:
    return docker("run", "--rm", "--network", "none", "--read-only", image, *words)


@pytest.mark.parametrize("name", ["dagster", "dbt"])
def test_a_bill_lists_what_is_in_the_image_in_the_versions_that_are_there(
    built: dict[str, str], bills: dict[str, Path], name: str
) -> None:
    found = components(bills[name])
    program = "import dagster, psycopg, sys; print(dagster.__version__, psycopg.__version__, sys.version.split()[0])"
    dagster, psycopg, python = inside(built[name], "python", "-c", program).split()
    assert (found["pypi"]["dagster"], found["pypi"]["psycopg"]) == (dagster, psycopg)
    assert found["generic"]["python"] == python
    listed = inside(built[name], "dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n")
    there = dict(line.split()[1:] for line in listed.splitlines() if line.startswith("installed "))
    assert found["deb"] == there
    assert {"libc6", "bash", "base-files"} <= there.keys()
    assert ("dbt-core" in found["pypi"]) is (name == "dbt")


def test_python_packages_are_those_of_the_lock(bills: dict[str, Path]) -> None:
    locked: dict[str, set[str]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        locked.setdefault(package["name"], set()).add(package["version"])
    found = components(bills["dagster"])["pypi"]
    assert len(found) > 50
    assert {name: version for name, version in found.items() if version not in locked.get(name, set())} == {}


def test_a_bill_names_its_image_and_what_needs_what(built: dict[str, str], bills: dict[str, Path]) -> None:
    bill = json.loads(bills["dagster"].read_text())
    itself = bill["metadata"]["component"]
    assert f"{itself['name']}:{itself['version']}" == built["dagster"]
    assert itself["hashes"] == [
        {"alg": "SHA-256", "content": docker("image", "inspect", "-f", "{{.Id}}", built["dagster"])[7:]}
    ]
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert any(ref.startswith("pkg:pypi/dagster-shared@") for ref in needs[dagster_of(bill)])
    assert len(needs["image"]) == len(bill["components"])


def dagster_of(bill: dict[str, Any]) -> str:
    return next(str(each["bom-ref"]) for each in bill["components"] if each["name"] == "dagster")


def test_an_image_that_is_not_there_is_named() -> None:
    words = [".venv/bin/python", "tools/sbom.py", "bindery/nowhere:1", "/dev/null"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "bindery/nowhere:1" in done.stderr
    assert "make images" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["dagster", "dbt"])
def test_neither_history_nor_configuration_shows_a_secret(built: dict[str, str], name: str, tmp_path: Path) -> None:
    said = tmp_path / "image.txt"
    config = json.loads(docker("image", "inspect", built[name]))[0]["Config"]
    lines = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}\n{{.Comment}}", built[name]).splitlines()
    # A layer of the base image names its key by fingerprint, and ours their commit: hexadecimal, and no secrets.
    lines += [*config["Env"], *map(str, (config["Cmd"], config["Entrypoint"]))]
    lines += [f"{key}={value}" for key, value in (config["Labels"] or {}).items() if "revision" not in key]
    said.write_text("\n".join(line for line in lines if not line.startswith(("GPG_KEY=", "PYTHON_SHA256="))))
    assert len(lines) > 10
    assert secrets_in(said) == []


def test_the_guard_finds_what_it_is_there_for(tmp_path: Path) -> None:
    said = tmp_path / "image.txt"
    # Put together here, so that the guard over this repository doesn't find them.
    token = "a1B2c3D4e5F6" * 3  # pragma: allowlist secret
    said.write_text(f"TOKEN=ghp_{token}\n" + "postgres" + "ql://bob:" + "hunter2hunter2@db/x")
    assert len(secrets_in(said)) >= 2


def secrets_in(path: Path) -> list[str]:
    plugins = json.loads((ROOT / ".secrets.baseline").read_text())["plugins_used"]
    found = SecretsCollection()
    with transient_settings({"plugins_used": plugins}):
        found.scan_file(str(path))
    return [f"{secret.type} in line {secret.line_number}" for _, secret in found]


@pytest.mark.parametrize("name", ["dagster", "dbt"])
def test_no_layer_holds_a_file_that_is_a_secret(built: dict[str, str], name: str) -> None:
    files, layers = [], 0
    with subprocess.Popen(["docker", "save", built[name]], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        with tarfile.open(fileobj=saving.stdout, mode="r|") as image:
            for member in image:
                content = image.extractfile(member) if member.isfile() else None
                if content is None or member.size < 1024 or member.name.endswith(".json"):
                    continue
                try:
                    with tarfile.open(fileobj=content, mode="r|*") as layer:
                        files += [each.name for each in layer]
                        layers += 1
                except tarfile.ReadError:
                    continue
    assert saving.returncode == 0
    assert layers >= 3
    assert len(files) > 5000
    assert [path for path in files if SECRET_FILES.search(path)] == []
