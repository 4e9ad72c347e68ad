"""What a plan of each size would make: names, closed doors, backups, and what costs by the hour."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.aws.moto import Moto
from tests.aws.terraform import LACKS, SIZES, copy, resources

Plan = dict[str, Any]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def plans(moto_server: Moto, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plan]:
    moto_server.reset()
    further = {"production": {"gpu_instance_type": "g4dn.xlarge"}}
    return {
        size: copy(tmp_path_factory.mktemp(size), moto_server, size, whole=True, **further.get(size, {})).plan()
        for size in SIZES
    }


@pytest.mark.parametrize("size", SIZES)
def test_everything_that_moto_lacks_is_in_the_plan(plans: dict[str, Plan], size: str) -> None:
    planned = {each["address"].partition("[")[0] for each in plans[size]["planned_values"]["root_module"]["resources"]}
    asleep = {each for each in LACKS if each.endswith((".platform", ".wake", ".uploads_wait"))}
    assert set(LACKS) - (set() if size == "minimal" else asleep) <= planned


@pytest.mark.parametrize("size", SIZES)
def test_families_services_and_names_are_those_the_code_knows(plans: dict[str, Plan], size: str) -> None:
    families = {each["family"] for each in resources(plans[size], "aws_ecs_task_definition").values()}
    services = {each["name"] for each in resources(plans[size], "aws_ecs_service").values()}
    own = {"bindery-platform"} if size == "minimal" else {"bindery-webserver", "bindery-daemon", "bindery-code"}
    gpu = {"bindery-step-gpu"} if size == "production" else set()
    assert families == {"bindery-run", "bindery-step", "bindery-step-dbt", "bindery-migrate"} | own | gpu
    assert services == own
    buckets = {each["bucket"] for each in resources(plans[size], "aws_s3_bucket").values()}
    assert buckets == {f"bindery-{name}-123456789012" for name in ("landing", "uploads", "logs", "output")}
    roles = {each["name"] for each in resources(plans[size], "aws_iam_role").values()}
    assert {"bindery-execution", "bindery-task-platform", "bindery-task-run", "bindery-task-step"} <= roles


@pytest.mark.parametrize("size", SIZES)
def test_the_database_is_closed_encrypted_and_keeps_backups(plans: dict[str, Plan], size: str) -> None:
    (database,) = resources(plans[size], "aws_db_instance").values()
    assert database["storage_encrypted"] is True
    assert database["publicly_accessible"] is False
    assert database["deletion_protection"] is True
    assert database["manage_master_user_password"] is True
    assert database["password"] is None
    assert database["backup_retention_period"] >= 7
    assert database["engine_version"] == "17"
    assert database["multi_az"] is (size == "production")
    (group,) = resources(plans[size], "aws_db_parameter_group").values()
    assert {"name": "rds.force_ssl", "value": "1"} in [
        {"name": each["name"], "value": each["value"]} for each in group["parameter"]
    ]


@pytest.mark.parametrize("size", SIZES)
def test_every_bucket_is_private_encrypted_and_versioned_where_bytes_matter(plans: dict[str, Plan], size: str) -> None:
    blocks = resources(plans[size], "aws_s3_bucket_public_access_block")
    assert len(blocks) == 4
    for block in blocks.values():
        names = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
        assert all(block[name] for name in names)
    assert len(resources(plans[size], "aws_s3_bucket_server_side_encryption_configuration")) == 4
    versions = resources(plans[size], "aws_s3_bucket_versioning")
    kept = {address: each["versioning_configuration"][0]["status"] for address, each in versions.items()}
    assert {address.split('"')[1] for address, status in kept.items() if status == "Enabled"} == {
        "landing",
        "uploads",
        "output",
    }
    assert all(each["force_destroy"] is False for each in resources(plans[size], "aws_s3_bucket").values())


@pytest.mark.parametrize("size", SIZES)
def test_images_are_never_overwritten_and_scanned(plans: dict[str, Plan], size: str) -> None:
    found = resources(plans[size], "aws_ecr_repository")
    assert {each["name"] for each in found.values()} == {"bindery/dagster", "bindery/dbt"}
    assert all(each["image_tag_mutability"] == "IMMUTABLE" for each in found.values())
    assert all(each["image_scanning_configuration"][0]["scan_on_push"] for each in found.values())
    assert all(each["force_delete"] is False for each in found.values())


@pytest.mark.parametrize("size", SIZES)
def test_services_start_empty_and_take_a_bad_release_back(plans: dict[str, Plan], size: str) -> None:
    for service in resources(plans[size], "aws_ecs_service").values():
        assert service["desired_count"] == 0
        assert service["deployment_circuit_breaker"] == [{"enable": True, "rollback": True}]
    daemon = [
        each for each in resources(plans[size], "aws_ecs_service").values() if each["name"] != "bindery-webserver"
    ]
    # Two daemons at once would launch schedules twice.
    assert all(each["deployment_maximum_percent"] == 100 for each in daemon if not each["name"].endswith("-code"))


def test_nothing_comes_into_a_task_but_by_the_load_balancer(plans: dict[str, Plan]) -> None:
    for size in SIZES:
        open_to_all = [
            each
            for each in resources(plans[size], "aws_vpc_security_group_ingress_rule").values()
            if each["cidr_ipv4"] is not None
        ]
        assert [each["from_port"] for each in open_to_all] == ([] if size == "minimal" else [443])


def test_only_what_is_large_costs_by_the_hour(plans: dict[str, Plan]) -> None:
    hourly = ("aws_nat_gateway", "aws_lb", "aws_eip")
    counted = {size: {kind: len(resources(plans[size], kind)) for kind in hourly} for size in SIZES}
    assert counted["minimal"] == dict.fromkeys(hourly, 0)
    assert counted["small"] == {"aws_nat_gateway": 0, "aws_lb": 1, "aws_eip": 0}
    assert counted["production"] == {"aws_nat_gateway": 2, "aws_lb": 1, "aws_eip": 2}
    (group,) = resources(plans["production"], "aws_autoscaling_group").values()
    assert group["min_size"] == 0


def test_a_sleeping_platform_is_woken_by_the_clock_and_by_uploads(plans: dict[str, Plan]) -> None:
    (schedule,) = resources(plans["minimal"], "aws_scheduler_schedule").values()
    target = schedule["target"][0]
    assert target["arn"] == "arn:aws:scheduler:::aws-sdk:ecs:updateService"
    assert json.loads(target["input"]) == {"Cluster": "bindery", "Service": "bindery-platform", "DesiredCount": 1}
    (policy,) = resources(plans["minimal"], "aws_appautoscaling_policy").values()
    step = policy["step_scaling_policy_configuration"][0]
    assert (step["adjustment_type"], step["step_adjustment"][0]["scaling_adjustment"]) == ("ExactCapacity", 1)
    for size in ("small", "production"):
        assert resources(plans[size], "aws_scheduler_schedule") == {}


def test_no_secret_is_in_a_plan(plans: dict[str, Plan]) -> None:
    for plan in plans.values():
        assert resources(plan, "aws_secretsmanager_secret_version") == {}
        assert resources(plan, "aws_ssm_parameter") == {}
    assert resources(plans["minimal"], "aws_secretsmanager_secret") == {}
    assert len(resources(plans["small"], "aws_secretsmanager_secret")) == 9
