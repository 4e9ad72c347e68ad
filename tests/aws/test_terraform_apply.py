"""Every size applied as a whole, planned again, and taken down: minutes, most of them waited by the provider."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.aws.moto import Moto
from tests.aws.terraform import SIZES, copy

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_made_and_taken_down(aws: Moto, tmp_path: Path, size: str) -> None:
    stack = copy(tmp_path / "stack", aws, size, whole=False)
    stack.apply()
    told = stack.outputs()
    assert told["size"] == size
    ecs = aws.client("ecs")
    wanted = {"bindery-platform"} if size == "minimal" else {"bindery-webserver", "bindery-daemon", "bindery-code"}
    assert set(told["services"]) == wanted
    described = ecs.describe_services(cluster=told["cluster"], services=sorted(wanted))["services"]
    assert {each["desiredCount"] for each in described} == {0}
    for family in ("run", "step", "step-dbt", "migrate"):
        definition = ecs.describe_task_definition(taskDefinition=f"bindery-{family}", include=["TAGS"])
        (container,) = definition["taskDefinition"]["containerDefinitions"]
        assert container["name"] == "main"
        assert container["user"] == "10001:10001"
        assert container["readonlyRootFilesystem"] is True
        assert container["privileged"] is False
        assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
        assert container["logConfiguration"]["options"]["awslogs-stream-prefix"] == f"bindery-{family}"
        environment = {each["name"]: each["value"] for each in container["environment"]}
        assert environment["BINDERY_ENVIRONMENT"] == "ecs"
        assert environment["BINDERY_UPLOADS_QUEUE_URL"] == told["queue"]["url"]
        assert not any("PASSWORD" in name for name in environment)
        names = {each["name"] for each in container["secrets"]}
        assert names == ({"PGUSER", "PGPASSWORD"} if family == "migrate" else {"PGPASSWORD"})
    (database,) = aws.client("rds").describe_db_instances()["DBInstances"]
    assert (database["PubliclyAccessible"], database["StorageEncrypted"]) == (False, True)
    state = json.loads((stack.folder / "terraform.tfstate").read_text())
    kinds = {each["type"] for each in state["resources"]}
    assert not kinds & {"aws_secretsmanager_secret_version", "random_password", "aws_ssm_parameter"}
    stack.variables |= {"database_protected": "false", "delete_data": "true"}
    stack.apply(
        "aws_db_instance.this", "aws_s3_bucket.this", "aws_ecr_repository.this", "aws_secretsmanager_secret.this"
    )
    stack.run("destroy", "-input=false", "-auto-approve")
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert ecs.describe_clusters(clusters=["bindery"])["clusters"][0]["status"] == "INACTIVE"
