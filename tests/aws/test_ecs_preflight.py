"""What `bindery doctor aws` finds: each thing that keeps a task from starting, named with its fix."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from dagster_project.cli.doctor import doctor
from dagster_project.execution.compute import CLASSES
from dagster_project.execution.ecs.looks import Look, guarded
from dagster_project.execution.ecs.network import check_network, check_way_out
from dagster_project.execution.ecs.preflight import check_cluster, check_database, check_families, check_sizes
from dagster_project.execution.ecs.tasks import Place, TaskError
from dagster_project.settings import Settings, aws_secrets
from tests.aws.moto import ACCOUNT, REGION, Moto

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/bindery/dagster:1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/shop"


@pytest.fixture
def network(aws: Moto) -> dict[str, str]:
    """A VPC with a public, a private and a closed subnet."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    found = {"vpc": vpc, "group": ec2.create_security_group(GroupName="t", Description="t", VpcId=vpc)["GroupId"]}
    for number, name in enumerate(("public", "private", "closed")):
        zone = f"{REGION}{'ab'[number % 2]}"
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{number}.0/24", AvailabilityZone=zone)["Subnet"]
        found[name] = subnet["SubnetId"]
        table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        ec2.associate_route_table(RouteTableId=table, SubnetId=found[name])
        if name == "public":
            gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
            ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
            ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        elif name == "private":
            address = ec2.allocate_address(Domain="vpc")["AllocationId"]
            nat = ec2.create_nat_gateway(SubnetId=found["public"], AllocationId=address)["NatGateway"]["NatGatewayId"]
            ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    return found


def place(network: Mapping[str, str], *subnets: str, **more: Any) -> Place:
    chosen = ", ".join(network.get(name, name) for name in subnets or ("public",))
    return Place.of(Settings(project="shop", ecs_subnets=chosen, ecs_security_groups=network["group"], **more))


def bad(found: Iterator[Look]) -> list[Look]:
    return [each for each in found if each.status != "ok"]


def test_a_place_without_a_network_is_none() -> None:
    with pytest.raises(TaskError, match=r"BINDERY_ECS_SUBNETS and BINDERY_ECS_SECURITY_GROUPS not set"):
        Place.of(Settings())


def test_a_cluster_has_to_be_there_with_its_providers(aws: Moto, network: dict[str, str]) -> None:
    ecs = aws.client("ecs")
    (missing,) = check_cluster(place(network), ecs)
    assert (missing.status, missing.said) == ("fail", "there is no active cluster shop")
    assert "BINDERY_ECS_CLUSTER" in missing.fix
    ecs.create_cluster(clusterName="shop", capacityProviders=["FARGATE"])
    (lacking,) = bad(check_cluster(place(network, ecs_gpu_capacity_provider="shop-gpu"), ecs))
    assert lacking.said == "the cluster has no capacity provider FARGATE_SPOT, shop-gpu"
    assert not bad(check_cluster(place(network, ecs_capacity="FARGATE"), ecs))


def test_subnets_and_groups_that_are_not_there_are_named(aws: Moto, network: dict[str, str]) -> None:
    ec2 = aws.client("ec2")
    assert not bad(check_network(place(network, "public", "private"), ec2))
    (gone,) = [each for each in check_network(place(network, "public", "subnet-gone"), ec2) if each.status == "fail"]
    assert (gone.said, gone.fix) == ("subnet-gone isn't in this account and region", "BINDERY_ECS_SUBNETS")
    (single,) = bad(check_network(place(network, "public"), ec2))
    assert "one availability zone" in single.said
    rules = ec2.describe_security_groups(GroupIds=[network["group"]])["SecurityGroups"][0]["IpPermissionsEgress"]
    ec2.revoke_security_group_egress(GroupId=network["group"], IpPermissions=rules)
    (closed,) = bad(check_network(place(network, "public", "private"), ec2))
    assert "lets nothing out" in closed.said
    other = ec2.create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
    far = ec2.create_subnet(VpcId=other, CidrBlock="10.2.0.0/24")["Subnet"]["SubnetId"]
    said = "\n".join(each.said for each in bad(check_network(place(network, "public", far), ec2)))
    assert "subnets and security groups are of several VPCs" in said


def test_a_public_subnet_needs_public_addresses(aws: Moto, network: dict[str, str]) -> None:
    ec2 = aws.client("ec2")
    (wrong,) = check_way_out(place(network, "public"), ec2)
    assert wrong.status == "fail"
    assert "CannotPullContainerError" in wrong.said
    assert "BINDERY_ECS_PUBLIC_IP=true" in wrong.fix
    (right,) = check_way_out(place(network, "public", ecs_public_ip=True), ec2)
    assert right.status == "ok"


def test_a_nat_gateway_is_a_way_out_and_endpoints_are(aws: Moto, network: dict[str, str]) -> None:
    ec2 = aws.client("ec2")
    (private,) = check_way_out(place(network, "private"), ec2)
    assert (private.status, private.said.partition(": ")[2][:4]) == ("ok", "nat-")
    (closed,) = check_way_out(place(network, "closed"), ec2)
    assert closed.status == "fail"
    assert "no endpoint of ecr.api, ecr.dkr, logs, secretsmanager, ecs, s3" in closed.said
    for service in ("ecr.api", "ecr.dkr", "logs", "secretsmanager", "ecs", "s3"):
        ec2.create_vpc_endpoint(VpcId=network["vpc"], ServiceName=f"com.amazonaws.{REGION}.{service}")
    (open_now,) = check_way_out(place(network, "closed"), ec2)
    assert open_now.status == "ok"


def register(aws: Moto, family: str, **changes: Any) -> None:
    options = {"awslogs-group": "/bindery/shop", "awslogs-region": REGION, "awslogs-stream-prefix": family}
    container = {
        "name": changes.pop("name", "main"),
        "image": changes.pop("image", IMAGE),
        "memory": 1024,
        "environment": changes.pop("environment", []),
        "logConfiguration": {"logDriver": "awslogs", "options": options},
    }
    aws.client("ecs").register_task_definition(
        **{
            "family": family,
            "requiresCompatibilities": ["FARGATE"],
            "networkMode": "awsvpc",
            "cpu": "512",
            "memory": "1024",
            "executionRoleArn": ROLE,
            "taskRoleArn": ROLE,
            "containerDefinitions": [container],
            **changes,
        }
    )


def push(aws: Moto) -> None:
    ecr = aws.client("ecr")
    ecr.create_repository(repositoryName="bindery/dagster")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": f"sha256:{'0' * 64}"}, "layers": []}
    ecr.put_image(repositoryName="bindery/dagster", imageManifest=json.dumps(manifest), imageTag="1")


def test_task_definitions_are_looked_into(aws: Moto, network: dict[str, str]) -> None:
    where = place(network)
    assert [each.said for each in check_families(where, aws.client)] == ["there is no such task definition"] * 3
    for family in ("shop-run", "shop-step", "shop-step-dbt"):
        register(aws, family)
    said = "\n".join(each.said for each in bad(check_families(where, aws.client)))
    assert said.count(f"{IMAGE} isn't in the registry") == 3
    assert said.count("its log group /bindery/shop isn't there") == 3
    push(aws)
    aws.client("logs").create_log_group(logGroupName="/bindery/shop")
    assert not bad(check_families(where, aws.client))
    register(aws, "shop-run", name="run")
    register(aws, "shop-step", cpu="300", memory="700", image="example.org/else:1", executionRoleArn="")
    register(aws, "shop-step-dbt", environment=[{"name": "BINDERY_DATABASE_URL", "value": "postgresql://u:pass@h/d"}])
    said = "\n".join(f"{each.check}: {each.said}" for each in bad(check_families(where, aws.client)))
    assert "shop-run: it has no container 'main'" in said
    assert "shop-step: Fargate has no size of 300 CPU units and 700 MiB" in said
    assert "shop-step: it has no executionRoleArn: its tasks can't pull the image" in said
    assert "shop-step: example.org/else:1 isn't in ECR" in said
    assert "shop-step-dbt: BINDERY_DATABASE_URL holds a password" in said
    assert "pass@" not in said


def test_each_class_is_told_with_its_size(network: dict[str, str]) -> None:
    (found,) = check_sizes(place(network), CLASSES)
    assert "small: 1 vCPU, 2 GiB on Fargate; medium: 2 vCPU, 4 GiB on Fargate" in found.said
    assert "gpu: none (no BINDERY_ECS_GPU_CAPACITY_PROVIDER)" in found.said


def test_a_database_that_does_not_answer_is_told_with_the_way_to_ask_inside() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (answers,) = check_database(f"postgresql://127.0.0.1:{port}/bindery")
        assert answers.status == "ok"
    (silent,) = check_database(f"postgresql://127.0.0.1:{port}/bindery")
    assert silent.status == "fail"
    assert "execute-command" in silent.fix
    (unset,) = check_database(None)
    assert unset.status == "fail"


def test_what_the_role_may_not_see_is_no_failure() -> None:
    def denied() -> Iterator[Look]:
        yield Look("roles", "ok", "one") if not network_is_asked() else Look("roles", "ok", "none")

    def network_is_asked() -> bool:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetRole")

    (found,) = guarded("roles", "iam:GetRole", denied)
    assert (found.status, "iam:GetRole" in found.fix) == ("warn", True)


def test_the_command_says_it_all(
    aws: Moto, network: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aws_secrets.forget()
    s3, sqs = aws.client("s3"), aws.client("sqs")
    for name in ("shop-uploads", "shop-logs", "shop-landing"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(Bucket="shop-logs", PublicAccessBlockConfiguration=closed)
    dead = sqs.create_queue(QueueName="shop-uploads-dead")["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:shop-uploads"
    policy = {"deadLetterTargetArn": f"{arn}-dead", "maxReceiveCount": "5"}
    attributes = {"VisibilityTimeout": "300", "RedrivePolicy": json.dumps(policy)}
    queue = sqs.create_queue(QueueName="shop-uploads", Attributes=attributes)["QueueUrl"]
    sqs.send_message(QueueUrl=dead, MessageBody="nobody could read this")
    events = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket="shop-uploads", NotificationConfiguration=events)
    secrets, untold = aws.client("secretsmanager"), "not told"
    for role in ("loader", "transformer", "features", "reader"):
        secrets.create_secret(Name=f"shop/postgres_{role}_password", SecretString=untold)
    variables = {
        "ENVIRONMENT": "ecs",
        "PROJECT": "shop",
        "DATA_DIR": str(tmp_path),
        "DATABASE_URL": "postgresql://127.0.0.1:9/bindery",
        "ECS_SUBNETS": network["private"],
        "ECS_SECURITY_GROUPS": network["group"],
        "SECRETS_FROM": "secretsmanager:shop/",  # pragma: allowlist secret
        "UPLOADS_BUCKET": "shop-uploads",
        "LOGS_BUCKET": "shop-logs",
        "LANDING_URL": "s3://shop-landing/raw",
        "UPLOADS_QUEUE_URL": queue,
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"BINDERY_{name}", value)
    done = CliRunner().invoke(doctor, ["aws", "--json"])
    assert done.exit_code == 1
    assert untold not in done.output
    found = [json.loads(line) for line in done.output.splitlines()]
    assert all(each["fix"] for each in found if each["status"] != "ok")
    by_check: dict[str, list[dict[str, str]]] = {}
    for each in found:
        by_check.setdefault(each["check"], []).append(each)
    assert by_check["account"][0]["said"].startswith(f"{ACCOUNT} in {REGION}, as ")
    assert by_check["bucket logs"][0]["status"] == "ok"
    assert by_check["bucket uploads"][0]["said"] == "shop-uploads could be made public"
    assert by_check["queue"][0]["status"] == "ok"
    assert by_check["dead letters"][0]["said"] == "1 messages in shop-uploads-dead"
    assert "s3:ObjectRemoved:*" in by_check["notification"][0]["said"]
    assert by_check["roles"][0]["said"] == "there is no role shop-execution"
    missing = [each["said"] for each in by_check["secrets"] if each["status"] == "fail"]
    assert missing == ["postgres_dagster_password isn't there"]
