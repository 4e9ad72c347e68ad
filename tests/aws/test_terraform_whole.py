"""The whole deploy with the real Terraform: state in a bucket, images first, rolled, looked at, destroyed in both ways.

Docker is a program that puts an image's name into the registry; services are healthy at once, as nothing runs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dagster_project.operations.deploy import migration, services
from tests.aws.moto import Moto
from tests.aws.terraform import LACKS, PLUGINS, PROVIDER, ROOT, SOURCE, without
from tests.aws.test_terraform_deploy import FAKE

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.fixture
def place(aws: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout that is deployed from, and let every child find the stand-in."""
    checkout = tmp_path / "checkout"
    folder = checkout / "deploy" / "terraform"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfvars", "*.tfstate*"))
    shutil.copy(ROOT / ".gitignore", checkout)
    provider = PROVIDER.replace('terraform {\n  backend "local" {}\n}\n', "")
    (folder / "stand_in_override.tf").write_text(provider + "\n".join(without(each) for each in LACKS))
    (folder / "terraform.tfvars").write_text(f'region = "{aws.region}"\nsize = "minimal"\n')
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        subprocess.run(git, cwd=checkout, check=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(FAKE)
    (programs / "docker").chmod(0o755)
    (tmp_path / "terraform.rc").touch()
    plugins = f"-plugin-dir={PLUGINS} " if PLUGINS.is_dir() else ""
    backend = ("use_path_style=true", "skip_credentials_validation=true", "skip_requesting_account_id=true")
    for name, value in {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "TF_CLI_CONFIG_FILE": str(tmp_path / "terraform.rc"),
        "TF_CLI_ARGS_init": plugins + " ".join(f"-backend-config={each}" for each in backend),
        "CHECKPOINT_DISABLE": "1",
        "BINDERY_PROJECT_DIR": str(checkout),
        "BINDERY_DATA_DIR": str(tmp_path / "data"),
    }.items():
        monkeypatch.setenv(name, value)

    def migrate(ecs: Any, _logs: Any, _cluster: str, told: Any, _group: str, _say: Any) -> None:
        # moto's RunTask fails where only the task has a size, and no container; test_terraform_deploy.py runs it.
        (container,) = ecs.describe_task_definition(taskDefinition=told["task_definition"])["taskDefinition"][
            "containerDefinitions"
        ]
        assert container["command"] == ["bindery", "db", "migrate"]

    monkeypatch.setattr(migration, "migrate", migrate)

    def wait(ecs: Any, cluster: str, service: str, definition: str, say: Any) -> None:
        found = services.look(ecs, cluster, service)
        assert (found["taskDefinition"], found["desiredCount"]) == (definition, 1)

    monkeypatch.setattr(services, "wait", wait)
    return folder


def bindery(*words: str, typed: str | None = None) -> str:
    from dagster_project.cli.main import main

    done = CliRunner().invoke(main, ["deploy", "aws", *words], input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_platform_comes_and_goes(aws: Moto, place: Path) -> None:
    said = bindery()
    assert "[6/6] services" in said
    assert "is deployed" in said
    told = bindery("status")
    assert "minimal in eu-central-1" in told
    assert "1 of" not in told.split("bindery-platform")[0]
    objects = aws.client("s3").list_objects_v2(Bucket="bindery-terraform-123456789012")["Contents"]
    assert [each["Key"] for each in objects] == ["bindery/terraform.tfstate"]
    assert "every secret is there" in bindery()
    assert bindery("rollback", "--list").count("@sha256:") == 1
    assert "awake for 120 minutes" in bindery("wake", "--for", "2h")
    bindery("destroy", typed="bindery\n")
    ecs, rds, storage = aws.client("ecs"), aws.client("rds"), aws.client("s3")
    assert (
        ecs.describe_services(cluster="bindery", services=["bindery-platform"])["services"][0]["status"] == "INACTIVE"
    )
    assert len(rds.describe_db_instances()["DBInstances"]) == 1
    assert len(storage.list_buckets()["Buckets"]) == 5
    assert len(aws.client("ssm").describe_parameters()["Parameters"]) == 7
    bindery("destroy", "--with-data", "--yes", "bindery")
    assert rds.describe_db_instances()["DBInstances"] == []
    assert [each["Name"] for each in storage.list_buckets()["Buckets"]] == ["bindery-terraform-123456789012"]
    assert aws.client("ssm").describe_parameters()["Parameters"] == []
