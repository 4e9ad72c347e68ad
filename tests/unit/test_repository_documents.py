"""Documents that would go stale by themselves: links, decisions, the Makefile's help, what CI and hooks call."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.run import ROOT, tracked_files

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitLab and GitHub give to a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def test_links_in_documents_lead_somewhere() -> None:
    pages = tracked_files(".md")
    assert "README.md" in pages
    assert not {page: links for page in pages if (links := broken_links(ROOT / page))}


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Here\n[a](nowhere.md) [b](#here) [c](page.md#there) [d](https://example.org)\n")
    assert broken_links(page) == ["nowhere.md", "page.md#there"]


def test_decisions_are_numbered_once_and_say_what_was_decided() -> None:
    numbers = []
    for path in DECISIONS:
        named = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
        assert named, f"{path.name}: name it NNNN-what-was-decided.md"
        numbers.append(int(named[1]))
        text = path.read_text(encoding="utf-8")
        assert re.match(rf"# {named[1]}[.:]? \S", text), f"{path.name}: the first line is `# {named[1]}. Title`"
    assert numbers, "no decision found"
    assert all(before < after for before, after in pairwise(numbers)), f"a number is used twice: {numbers}"


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines() if line.startswith("  ")} == TARGETS
    assert {"run", "dev", "prove", "test", "install", "bench", "soak", "clean"} <= TARGETS


def test_make_alone_prints_the_help() -> None:
    alone, asked = (
        subprocess.run(["make", *target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for target in ([], ["help"])
    )
    assert alone == asked


def test_every_target_is_phony() -> None:
    assert set(re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE)) == TARGETS


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", ".gitlab-ci.yml", ".ci/run"])
def test_documents_name_only_targets_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|[`'\"]|&& |- )make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert named, f"{document} names no target at all"
    assert named <= TARGETS


def test_the_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"make run\b", text)
    assert re.search(r"make test\b", text)


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_the_one_that_the_package_names() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_hooks_are_local_programs_of_the_lock() -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system", f"{hook['id']}: a language of its own is downloaded"
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/"), f"{hook['id']}: not a program of the lock"
        assert (ROOT / program).is_file(), f"{hook['id']}: {program} is not installed by the lock"


def test_nothing_started_by_make_reports_to_anybody() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory", "-f", "Makefile", "-f", "-", "tell"],
        cwd=ROOT,
        input="tell:\n\t@env\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert {"DO_NOT_TRACK=1", "DBT_SEND_ANONYMOUS_USAGE_STATS=false", "DAGSTER_DISABLE_TELEMETRY=1"} <= set(printed)
