"""The images by themselves: size, user, what is in them, and what their history shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docker.stack import docker

pytestmark = pytest.mark.timeout(600)
MOST_DAGSTER_MB = 400


def inside(image: str, program: str) -> str:
    return docker("run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", image, "bash", "-c", program)


def test_the_image_of_dagster_is_small(images: tuple[str, str], figures: dict[str, str]) -> None:
    sizes = [int(docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6 for image in images]
    figures["size of the images, Dagster's and dbt's"] = f"{sizes[0]:.0f} MB, {sizes[1]:.0f} MB"
    assert sizes[0] <= MOST_DAGSTER_MB


def test_both_images_share_their_layers(images: tuple[str, str]) -> None:
    first, second = (json.loads(docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", name)) for name in images)
    assert first[:2] == second[:2], "the base and the packages"


@pytest.mark.parametrize("which", [0, 1])
def test_processes_are_nobody_of_importance(images: tuple[str, str], which: int) -> None:
    assert docker("image", "inspect", "-f", "{{.Config.User}}", images[which]) == "10001:10001"
    assert inside(images[which], "id -u; id -g; id -G").split() == ["10001"] * 3
    assert inside(images[which], "find / -xdev -perm /6000 -type f 2>/dev/null || true") == ""
    assert inside(images[which], "find /bindery /opt -xdev -user 10001 2>/dev/null | head") == ""


@pytest.mark.parametrize("which", [0, 1])
def test_there_is_nothing_to_build_or_install_with(images: tuple[str, str], which: int) -> None:
    tools = "gcc cc make apt apt-get dpkg pip pip3 uv git curl wget perl ssh su sudo mount"
    found = inside(images[which], f"for name in {tools}; do command -v $name || true; done")
    assert set(map(Path, found.split())) <= {Path("/usr/bin/dpkg")}
    assert inside(images[which], "ls /opt/*/bin | grep -E '^(pip|uv|easy_install)[0-9.]*$' || true") == ""


def test_dbt_is_in_its_own_image_alone(images: tuple[str, str]) -> None:
    look = "ls -d /opt/*/lib/python3*/site-packages/dbt 2>/dev/null || true; ls -d /opt/dbt 2>/dev/null || true"
    assert inside(images[0], look) == ""
    assert "/opt/dbt" in inside(images[1], look).split()


def test_both_carry_the_one_manifest(images: tuple[str, str]) -> None:
    first, second = (inside(name, "cd dbt_project/target; sha256sum manifest.json project.sha256") for name in images)
    assert first == second
    assert first.count("\n") == 1


def test_nothing_of_this_folder_that_is_secret_or_unneeded_is_in_them(images: tuple[str, str]) -> None:
    for image in images:
        there = inside(image, "ls -A /bindery /bindery/deploy").split()
        assert not {".env", ".git", "tests", "docs", "drop", ".bindery", "docker-compose.yml", "proxy"} & set(there)
        assert (
            inside(image, "find / -xdev -name '*.pem' -path '*private*' -o -xdev -name 'id_rsa*' 2>/dev/null || true")
            == ""
        )


def test_the_history_shows_no_secret(images: tuple[str, str]) -> None:
    for image in images:
        said = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
        said += docker("image", "inspect", "-f", "{{json .Config.Env}} {{json .Config.Labels}}", image)
        assert not re.search(r"(PASSWORD|SECRET|TOKEN|_KEY)\s*=\s*[^\s]", said)
        assert not re.search(r"://[^/\s:]+:[^/\s@]+@", said)


def test_labels_say_which_version_it_is(images: tuple[str, str]) -> None:
    for image in images:
        labels = json.loads(docker("image", "inspect", "-f", "{{json .Config.Labels}}", image))
        assert labels["org.opencontainers.image.title"] == image.partition(":")[0]
        assert labels["org.opencontainers.image.version"] == image.partition(":")[2]
        assert {"org.opencontainers.image.revision", "org.opencontainers.image.licenses"} <= set(labels)


def test_what_a_step_imports_is_compiled(images: tuple[str, str]) -> None:
    program = (
        "import sys, importlib.util as u, os; import dagster_project.definitions, "
        "dagster._core.executor.step_delegating, dagster_project.execution.step, dagster_postgres; "
        "print([n for n, m in sorted(sys.modules.items()) if (f := getattr(m, '__file__', None)) and f.endswith('.py')"
        " and getattr(m.__spec__, 'origin', None) != 'frozen' and not os.path.exists(u.cache_from_source(f))])"
    )
    assert inside(images[0], f'python -c "{program}"') == "[]"


def test_dbt_runs_alone(images: tuple[str, str]) -> None:
    said = docker(
        "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", images[1], "bindery", "dbt", "--version"
    )
    assert "installed" in said
