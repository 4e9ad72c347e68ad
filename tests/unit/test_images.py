"""What images are made from: the stages that two Dockerfiles share, what the builder gets, versions that agree."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

from tests.run import ROOT, tracked_files

DOCKERFILES = ("Dockerfile.dagster", "Dockerfile.dbt")
BEGIN, END = "# === shared stages\n", "# === end of the shared stages\n"
TEXTS = {name: (ROOT / name).read_text() for name in DOCKERFILES}
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def instructions(text: str) -> list[tuple[str, str]]:
    """Read a Dockerfile's instructions, continued lines joined and comments left out."""
    joined = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [(words[0], words[1]) for line in joined.splitlines() if len(words := line.split(maxsplit=1)) == 2]


def copied(text: str) -> set[str]:
    """Give what a Dockerfile copies from the build context."""
    sources: set[str] = set()
    for name, rest in instructions(text):
        if name in {"COPY", "ADD"} and "--from=" not in rest:
            *found, _target = (word for word in rest.split() if not word.startswith("--"))
            sources.update(found)
    return sources


def ignore_rules() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def is_sent(path: str) -> bool:
    """Say whether a file reaches the builder: the last rule that fits it or one of its folders decides."""
    sent = True
    parts = [path, *map(str, Path(path).parents)][:-1]
    for rule in ignore_rules():
        pattern = rule.removeprefix("!")
        fits = any(
            fnmatch.fnmatchcase(part, pattern.removeprefix("**/"))
            or fnmatch.fnmatchcase(part, pattern.replace("**/", "*/"))
            for part in parts
        )
        if fits:
            sent = rule.startswith("!")
    return sent


def test_the_shared_stages_are_the_same_word_for_word() -> None:
    shared = []
    for text in TEXTS.values():
        assert text.count(BEGIN) == text.count(END) == 1
        shared.append(text[text.index(BEGIN) : text.index(END)])
    assert shared[0] == shared[1]
    assert "FROM" in shared[0]


def test_dbt_is_copied_into_the_image_of_dbt_alone() -> None:
    own = {name: text[text.index(END) :] for name, text in TEXTS.items()}
    assert "/opt/dbt" not in own["Dockerfile.dagster"]
    assert "COPY --from=dbt-packages /opt/dbt /opt/dbt" in own["Dockerfile.dbt"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_last_stage_runs_as_nobodys_user_from_a_pinned_base(name: str) -> None:
    found = instructions(TEXTS[name])
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    assert ("USER", "10001:10001") in found[last:]
    assert not [rest for word, rest in found if word in {"ADD", "MAINTAINER"}]
    assert not TEXTS[name].startswith("# syntax=")
    stages = {rest.split(" AS ")[1] for word, rest in found if word == "FROM"}
    bases = {rest.split(" AS ")[0] for word, rest in found if word == "FROM"} - stages
    assert bases == {"${PYTHON_IMAGE}", "scratch"}
    assert "ARG PYTHON_IMAGE=python:3.13-slim-trixie\n" in TEXTS[name]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_no_secret_is_an_argument_or_a_variable_of_an_image(name: str) -> None:
    said = [rest for word, rest in instructions(TEXTS[name]) if word in {"ARG", "ENV"}]
    assert said
    assert not [rest for rest in said if re.search(r"PASSWORD|SECRET|TOKEN|_KEY\b", rest)]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_say_what_they_are(name: str) -> None:
    last = TEXTS[name][TEXTS[name].index(END) :]
    for label in ("title", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}" in last


def test_the_builder_gets_what_the_dockerfiles_copy_and_no_more() -> None:
    allowed = {rule[1:] for rule in ignore_rules() if rule.startswith("!")}
    assert ignore_rules()[0] == "*"
    wanted = set().union(*map(copied, TEXTS.values()))
    assert {
        name for name in wanted if not any(name == each or name.startswith(f"{each}/") for each in allowed)
    } == set()
    assert {
        each for each in allowed if not any(name == each or name.startswith(f"{each}/") for name in wanted)
    } == set()


def test_files_that_are_copied_exist_and_are_sent() -> None:
    names = tracked_files()
    for source in set().union(*map(copied, TEXTS.values())):
        inside = [name for name in names if name == source or name.startswith(f"{source.rstrip('/')}/")]
        assert inside, source
        assert [name for name in inside if is_sent(name)], source


@pytest.mark.parametrize(
    "path",
    [
        ".env", ".git/config", ".bindery/secrets/postgres_owner_password", "drop/ratings/mine.csv", ".venv/bin/python",
        "dagster_project/.env", "dagster_project/__pycache__/x.cpython-313.pyc", "dbt_project/target/manifest.json",
        "dbt_project/logs/dbt.log", "docker-compose.yml", "docs/cards.md", "deploy/proxy/Caddyfile",
    ],
)  # fmt: skip
def test_what_no_image_needs_stays_here(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize(
    "path", ["uv.lock", "dagster_project/definitions.py", "dbt_project/models/marts/dim_books.sql"]
)
def test_what_images_need_is_sent(path: str) -> None:
    assert is_sent(path)


def test_the_installer_in_the_image_is_the_one_of_the_lock() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (version,) = (each["version"] for each in packages if each["name"] == "uv")
    for text in TEXTS.values():
        assert re.findall(r"^ARG UV_VERSION=(.*)$", text, re.MULTILINE) == [version]


def test_versions_are_named_and_agree() -> None:
    for text in (*TEXTS.values(), COMPOSE):
        assert not re.search(r":latest\b", text)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    tags = set(re.findall(r"BINDERY_TAG:-([^}$]*?)-?[}$]", COMPOSE))
    assert tags == {version}
    pinned = re.findall(r"image: \$\{BINDERY_\w+_IMAGE:-([^}]+)\}", COMPOSE)
    assert len(pinned) == 3
    assert all(re.fullmatch(r"[a-z/]+:(pg)?\d+[\w.-]*", image) for image in pinned)
