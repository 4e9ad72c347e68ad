"""deploy/terraform as it stands: formatted, valid, scanned, and one with what the code and the cost sheet say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagster_project.execution.ecs.sizes import is_valid
from tests.aws.moto import Moto
from tests.aws.terraform import ROOT, SIZES, SOURCE, Stack, copy

pytestmark = pytest.mark.timeout(300)
FILES = sorted(SOURCE.glob("*.tf"))
CHECKOV_ENVIRONMENT = ROOT / ".venv-checkov"
CHECKOV_LOCK = ROOT / "tools" / "checkov.txt"
PAIR = re.compile(r"(\w+)\s*=\s*\{\s*cpu\s*=\s*(\d+),\s*memory\s*=\s*(\d+)\s*\}")


@pytest.fixture(scope="module")
def stack(moto_server: Moto, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    moto_server.reset()
    return copy(tmp_path_factory.mktemp("terraform"), moto_server, "minimal", whole=True)


def test_files_are_formatted(stack: Stack) -> None:
    stack.run("fmt", "-check", "-diff", str(SOURCE))


def test_files_are_valid(stack: Stack) -> None:
    told = json.loads(stack.run("validate", "-json"))
    assert told["valid"], told["diagnostics"]
    assert told["warning_count"] == 0, told["diagnostics"]


def test_every_variable_and_output_says_what_it_is() -> None:
    for name in ("variables.tf", "outputs.tf"):
        text = (SOURCE / name).read_text()
        blocks = re.findall(r'^(?:variable|output) "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
        assert len(blocks) > 10
        assert [each for each, body in blocks if "description" not in body] == []


def test_every_variable_is_used() -> None:
    code = "".join(path.read_text() for path in FILES)
    names = re.findall(r'^variable "(\w+)"', code, re.MULTILINE)
    assert [name for name in names if f"var.{name}" not in code.replace(f'variable "{name}"', "")] == []


def sizes_of_tasks() -> dict[str, dict[str, list[int]]]:
    text = (SOURCE / "sizes.tf").read_text().split("task_sizes = {")[1].split("task_size =")[0]
    parts = re.split(r"^    (\w+) = \{$", text, flags=re.MULTILINE)[1:]
    return {
        size: {name: [int(cpu), int(memory)] for name, cpu, memory in PAIR.findall(body)}
        for size, body in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_task_has_a_size_that_fargate_has() -> None:
    found = sizes_of_tasks()
    assert set(found) == set(SIZES)
    wrong = {f"{size}.{name}" for size, tasks in found.items() for name, pair in tasks.items() if not is_valid(*pair)}
    assert wrong == set()


def test_the_cost_sheet_prices_what_is_made() -> None:
    prices: dict[str, Any] = yaml.safe_load((SOURCE / "prices.yaml").read_text())
    tasks = sizes_of_tasks()
    text = (SOURCE / "sizes.tf").read_text()
    for size in SIZES:
        made = prices["sizes"][size]
        services = {name: pair for name, pair in tasks[size].items() if name not in {"run", "step", "migrate"}}
        assert made["services"] == services
        assert made["run"] == tasks[size]["run"]
        body = text.split(f"    {size} = {{")[1].split("}")[0]
        said = dict(re.findall(r'(\w+)\s*=\s*"?([\w.]+)"?', body))
        assert made["database"] == {
            "class": said["database_class"],
            "gib": int(said["database_gib"]),
            "zones": int(said["database_zones"]),
        }
        assert made["nat_gateways"] == int(said["nat_gateways"])
        assert made["load_balancers"] == (0 if said["ui_login"] == "none" else 1)


def test_the_example_holds_variables_that_there_are() -> None:
    said = re.findall(r"^#? ?(\w+)\s*=", (SOURCE / "terraform.tfvars.example").read_text(), re.MULTILINE)
    known = re.findall(r'^variable "(\w+)"', (SOURCE / "variables.tf").read_text(), re.MULTILINE)
    assert {"region", "size"} <= set(said)
    assert set(said) - set(known) == set()


WRONG = {
    "project": ("Bad_Name", "project begins with a letter"),
    "dagster_image": ("bindery/dagster:latest", "dagster_image is pinned by its digest"),
    "uploads_prefix": ("/in", "no key does"),
    "environment": ('{"DB_PASSWORD" = "x"}', "belong to `bindery deploy aws secret`"),
    "wake_schedule": ("0 4 * * *", "wake_schedule is cron(...) or rate(...)"),
    "database_storage_gib": ("10", "RDS begins at 20 GiB"),
    "ui_login": ("password", "ui_login is none, basic or oidc"),
    "kms_key_arn": ("alias/mine", "kms_key_arn is the ARN of a key"),
}


def test_wrong_values_are_refused_in_words(stack: Stack) -> None:
    wrong = Stack(
        stack.folder, stack.server, {**stack.variables, **{name: value for name, (value, _) in WRONG.items()}}
    )
    with pytest.raises(AssertionError) as refused:
        wrong.run("plan", "-input=false", "-no-color", "-lock=false")
    said = re.sub(r"[\s│]+", " ", str(refused.value))
    assert [name for name, (_, says) in WRONG.items() if says not in said] == []


@pytest.fixture(scope="module")
def checkov() -> Path:
    """Install checkov from its own lock where it isn't yet: it can't be in one environment with the project."""
    program = CHECKOV_ENVIRONMENT / "bin" / "checkov"
    stamp = CHECKOV_ENVIRONMENT / "from.txt"
    wanted = CHECKOV_LOCK.read_text()
    if not program.exists() or not stamp.exists() or stamp.read_text() != wanted:
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, CHECKOV_ENVIRONMENT], check=True)
        words: list[str | Path] = [
            uv,
            "pip",
            "sync",
            "--quiet",
            "--python",
            CHECKOV_ENVIRONMENT,
            "--require-hashes",
            CHECKOV_LOCK,
        ]
        subprocess.run(words, check=True)
        stamp.write_text(wanted)
    return program


def test_the_scanner_finds_nothing_that_nobody_argued_for(checkov: Path) -> None:
    words: list[str | Path] = [
        checkov,
        "--config-file",
        SOURCE / ".checkov.yaml",
        "--directory",
        SOURCE,
        "--output",
        "json",
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=110)
    assert done.stdout, done.stderr[-3000:]
    told = json.loads(done.stdout)
    told = told[0] if isinstance(told, list) else told
    failed = [
        f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in told["results"]["failed_checks"]
    ]
    assert failed == []
    assert told["summary"]["passed"] > 100
    assert told["summary"]["parsing_errors"] == 0


def test_every_suppression_is_argued_for() -> None:
    text = (SOURCE / ".checkov.yaml").read_text()
    ignored = re.findall(r"^\s+- (CKV\w+)(.*)$", text, re.MULTILINE)
    assert ignored
    assert [each for each, reason in ignored if len(reason.strip().removeprefix("#").split()) < 4] == []
