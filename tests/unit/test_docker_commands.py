"""Commands for Docker that the guides give: in a service that may do it, and with the effect that the text promises."""

from __future__ import annotations

import re
from pathlib import Path

import bcrypt
import pytest
from click.testing import CliRunner

from dagster_project.cli.installation import secrets as secrets_command
from dagster_project.operations.first_secrets import Folders, WeakSecretError, make
from tests.run import ROOT
from tests.unit.test_containers import SERVICES

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"docker compose (?:run|exec)((?: -{1,2}\S+)*) ([a-z-]+) bindery ([a-z]+)([^\n`|]*)")
GIVEN = [(page.name, *found.groups()) for page in PAGES for found in COMMAND.finditer(page.read_text())]
OPERATING = (ROOT / "docs" / "operating.md").read_text()
DOCKER = (ROOT / "docs" / "docker.md").read_text()


def writable(service: str) -> set[str]:
    """The folders of secrets that a service may write to."""
    mounts = [str(each).split(":") for each in SERVICES[service].get("volumes", [])]
    return {parts[1] for parts in mounts if parts[0].startswith("secrets") and parts[2:] != ["ro"]}


def test_the_guides_give_commands() -> None:
    assert {("operating.md", "secrets"), ("docker.md", "secrets")} <= {
        (page, service) for page, _, service, *_ in GIVEN
    }


@pytest.mark.parametrize(("page", "options", "service", "command", "rest"), GIVEN)
def test_a_command_is_given_in_a_service_that_may_do_it(
    page: str, options: str, service: str, command: str, rest: str
) -> None:
    assert service in SERVICES, page
    if command == "secrets":
        assert "/run/bindery/secrets" in writable(service), page
        assert {"--rm", "--no-deps", "-T"} <= set(options.split()), f"{page}: {rest}"
        if (folder := re.search(r"--steps (\S+)", rest)) is not None:
            assert folder.group(1) in writable(service), page
    else:
        assert service != "secrets", page


def test_the_rule_for_docker_names_its_exceptions() -> None:
    rule = OPERATING[: OPERATING.index("## ")]
    told = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", rule, re.MULTILINE))
    for command, where in (
        ("bindery doctor", "make doctor"),
        ("bindery secrets", "-T secrets"),
        ("backup", "make backup"),
    ):
        (said,) = [text for name, text in told.items() if command in name]
        assert where in said
    assert told["every other one"] == "`docker compose exec webserver bindery ...`"


def test_another_login_is_set_by_the_command_that_the_guide_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda rounds: usual(4))
    folders = Folders(tmp_path / "admin", tmp_path / "steps", tmp_path / "front")
    make(folders)
    (given,) = re.findall(r"bindery secrets (set operator_password .*) < file", DOCKER)
    words = given.replace("/run/bindery/admin", str(folders.admin)).split()
    done = CliRunner().invoke(secrets_command, words, input="of my own choice 7\n")
    assert done.exit_code == 0, done.output
    make(folders)
    users = dict(line.split() for line in (folders.front / "users.caddy").read_text().splitlines())
    assert bcrypt.checkpw(b"of my own choice 7", users["operator"].encode())
    assert CliRunner().invoke(secrets_command, words, input="changeme\n").exit_code == 0
    with pytest.raises(WeakSecretError):
        make(folders)
