"""The image for AWS carries the descriptions of the services that code in tasks asks, and of no others."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from tests.run import ROOT

CLIENT = re.compile(r"""(?:client|resource)\(\s*["']([a-z0-9-]+)["']""")
OUTSIDE = ROOT / "dagster_project" / "operations" / "deploy"
"""Runs where somebody deploys from, not in the image."""
OF_DAGSTER = {"ec2", "ecs", "logs", "s3", "secretsmanager"}
"""What EcsRunLauncher and S3ComputeLogManager ask for."""


def slim() -> Any:
    found = importlib.util.spec_from_file_location("slim", ROOT / "deploy" / "docker" / "slim.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_service_that_is_asked_is_in_the_image() -> None:
    asked = set(OF_DAGSTER) | {"ssm"}  # whose name aws_secrets reads from a setting
    for path in (ROOT / "dagster_project").rglob("*.py"):
        if not path.is_relative_to(OUTSIDE):
            asked |= set(CLIENT.findall(path.read_text()))
    assert asked == slim().AWS_SERVICES


def test_only_services_that_nobody_asks_are_removed(tmp_path: Path) -> None:
    for name, version in (
        ("s3", "2020-01-01"),
        ("ecs", "2020-01-01"),
        ("ecs", "2015-01-01"),
        ("workmail", "2020-01-01"),
    ):
        folder = tmp_path / "botocore" / "data" / name / version
        folder.mkdir(parents=True)
        (folder / "service-2.json.gz").touch()
        (folder / "examples-1.json.gz").touch()
    for name in ("endpoints.json", "partitions.json"):
        (tmp_path / "botocore" / "data" / name).touch()
    (tmp_path / "boto3" / "data" / "s3").mkdir(parents=True)
    (tmp_path / "boto3" / "data" / "glacier").mkdir()
    (tmp_path / "boto3" / "examples").mkdir()
    slim().remove_services(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        "botocore/data/endpoints.json",
        "botocore/data/partitions.json",
        "botocore/data/s3/2020-01-01/service-2.json.gz",
        "botocore/data/ecs/2020-01-01/service-2.json.gz",
    }
    assert not (tmp_path / "boto3" / "data" / "glacier").exists()
    assert not (tmp_path / "boto3" / "examples").exists()
