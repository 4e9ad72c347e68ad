"""What roles may do: each action has code that calls it, or a reason; and the buckets and queue that an apply makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from botocore.exceptions import ClientError

from tests.aws.moto import Moto
from tests.aws.terraform import ROOT, SOURCE, Stack, copy

# An apply waits for what the provider waits for.
pytestmark = pytest.mark.timeout(400)
ACTION = re.compile(r'"((?:ecs|ecr|ec2|s3|sqs|ssm|ssmmessages|secretsmanager|logs|iam|kms|sts|sns|events):[\w*]+)"')
CALLS = {
    "ecs:RunTask": "run_task",
    "ecs:StopTask": "stop_task",
    "ecs:DescribeTasks": "describe_tasks",
    "ecs:ListTasks": "list_tasks",
    "ecs:DescribeTaskDefinition": "describe_task_definition",
    "ecs:RegisterTaskDefinition": "register_task_definition",
    "ecs:DescribeServices": "describe_services",
    "ecs:UpdateService": "update_service",
    "ecs:DescribeClusters": "describe_clusters",
    "ec2:DescribeRouteTables": "describe_route_tables",
    "ec2:DescribeSecurityGroups": "describe_security_groups",
    "ec2:DescribeSubnets": "describe_subnets",
    "ec2:DescribeVpcEndpoints": "describe_vpc_endpoints",
    "ecr:DescribeImages": "describe_images",
    "iam:GetRole": "get_role",
    "logs:DescribeLogGroups": "describe_log_groups",
    "logs:GetLogEvents": "get_log_events",
    "s3:GetBucketNotification": "get_bucket_notification_configuration",
    "s3:GetBucketPublicAccessBlock": "get_public_access_block",
    "s3:GetObject": "get_object",
    "s3:PutObject": "put_object",
    "s3:DeleteObject": "delete_object",
    "s3:ListBucket": "list_objects_v2",
    "sqs:ReceiveMessage": "receive_message",
    "sqs:DeleteMessage": "delete_message_batch",
    "sqs:ChangeMessageVisibility": "change_message_visibility_batch",
    "sqs:GetQueueUrl": "get_queue_url",
    "sqs:GetQueueAttributes": "get_queue_attributes",
    "sqs:SendMessage": "send_message",
    "ssm:GetParameter": "get_parameter",
    "secretsmanager:GetSecretValue": "get_secret_value",  # pragma: allowlist secret
}
"""Action of a task's role -> the call of boto3 in our code that needs it."""
OTHERS = {
    "ecs:TagResource": "run_task and register_task_definition with tags",
    "iam:PassRole": "run_task and register_task_definition, whose definitions name roles",
    "s3:AbortMultipartUpload": "upload_fileobj, when it fails in the middle of a large object",
    "s3:GetObjectVersion": "get_object and copy_object with the version that was announced",
    "kms:Decrypt": "S3, SQS and secrets, with a key of your own",
    "kms:GenerateDataKey": "S3 and SQS, with a key of your own",
    "ssmmessages:CreateControlChannel": "ECS's agent: a shell or a tunnel",
    "ssmmessages:CreateDataChannel": "the same",
    "ssmmessages:OpenControlChannel": "the same",
    "ssmmessages:OpenDataChannel": "the same",
    "logs:CreateLogStream": "ECS's log driver",
    "logs:PutLogEvents": "the same",
    "logs:DescribeLogStreams": "ECS's agent, which keeps what is typed in a shell",
    "ecr:GetAuthorizationToken": "ECS, when it pulls",
    "ecr:BatchCheckLayerAvailability": "the same",
    "ecr:BatchGetImage": "the same",
    "ecr:GetDownloadUrlForLayer": "the same",
    "ssm:GetParameters": "ECS, when it hands a secret to a task",
}
"""Action -> what needs it, where it isn't a call of ours."""
CONDITIONS = {"sts:AssumeRole", "iam:PassedToService", "ecs:CreateAction", "ecs:cluster"}
"""What stands in the same quotes and is no right: keys of conditions, and the trust of roles."""
UNSCOPED = {
    "ecr:GetAuthorizationToken",
    "ecs:ListTasks",  # held to our cluster by a condition
    "ecs:DescribeTaskDefinition",
    "logs:DescribeLogGroups",
    *(name for name in CALLS if name.startswith("ec2:Describe")),
    *(name for name in OTHERS if name.startswith("ssmmessages:")),
}
"""Actions for which AWS knows no narrower resource."""


def said(*names: str) -> set[str]:
    """Give the actions that files say."""
    return {action for name in names for action in ACTION.findall((SOURCE / name).read_text())}


def test_every_right_of_a_task_is_one_that_our_code_uses() -> None:
    code = "\n".join(path.read_text() for path in sorted((ROOT / "dagster_project").rglob("*.py")))
    given = said("roles.tf", "rights.tf") - CONDITIONS
    assert given - set(CALLS) - set(OTHERS) == set()
    assert {action: call for action, call in CALLS.items() if not re.search(rf"\b{call}\b", code)} == {}


def test_no_right_is_listed_that_nobody_has() -> None:
    assert (set(CALLS) | set(OTHERS)) - said("roles.tf", "rights.tf") == set()


def test_no_allowed_action_is_a_wildcard() -> None:
    for path in sorted(SOURCE.glob("*.tf")):
        for block in re.findall(r"statement \{\n(.*?)\n    ?\}\n", path.read_text(), re.DOTALL):
            wild = [action for action in ACTION.findall(block) if "*" in action]
            assert not wild or re.search(r'effect\s*=\s*"Deny"', block), (path.name, wild)


@pytest.fixture(scope="module")
def world(moto_server: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Apply all but the database and what hangs on it, which takes minutes and is test_terraform_apply's."""
    moto_server.reset()
    stack = copy(tmp_path_factory.mktemp("world"), moto_server, "minimal", whole=False)
    stack.apply(
        "aws_iam_role_policy.task",
        "aws_s3_bucket_policy.this",
        "aws_s3_bucket_notification.uploads",
        "aws_ecs_cluster_capacity_providers.this",
    )
    yield stack
    moto_server.reset()


def policies(server: Moto) -> dict[str, list[dict[str, Any]]]:
    """Give the statements of every role's policies."""
    iam = server.client("iam")
    found: dict[str, list[dict[str, Any]]] = {}
    for role in (each["RoleName"] for page in iam.get_paginator("list_roles").paginate() for each in page["Roles"]):
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            found.setdefault(role, []).extend(document["Statement"])
    return found


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def test_resources_are_as_narrow_as_aws_knows_them(world: Stack) -> None:
    found = policies(world.server)
    assert {"bindery-task-platform", "bindery-task-run", "bindery-task-step", "bindery-task-migrate"} <= set(found)
    for role, statements in found.items():
        for statement in statements:
            actions = set(listed(statement["Action"]))
            assert not any(action.endswith("*") for action in actions), role
            if "*" in listed(statement["Resource"]):
                assert actions <= UNSCOPED, (role, statement)
            if "ecs:ListTasks" in actions or "ecs:RunTask" in actions:
                assert statement["Condition"]["ArnEquals"]["ecs:cluster"].endswith(":cluster/bindery"), role
            if "iam:PassRole" in actions:
                assert statement["Condition"]["StringEquals"]["iam:PassedToService"] == "ecs-tasks.amazonaws.com"
                assert all(":role/bindery-" in arn for arn in listed(statement["Resource"]))


def test_a_step_starts_nothing_and_owns_no_tables(world: Stack) -> None:
    statements = policies(world.server)["bindery-task-step"]
    actions = {action for each in statements if each["Effect"] == "Allow" for action in listed(each["Action"])}
    assert {action for action in actions if action.startswith(("ecs:", "iam:", "sqs:"))} == set()
    denied = [arn for each in statements if each["Effect"] == "Deny" for arn in listed(each["Resource"])]
    assert any("postgres_owner_password" in arn for arn in denied)
    written = [
        arn for each in statements if "s3:PutObject" in listed(each["Action"]) for arn in listed(each["Resource"])
    ]
    assert written
    assert not any("uploads" in arn for arn in written)


def test_roles_are_taken_by_tasks_of_this_account_alone(world: Stack) -> None:
    trust = world.server.client("iam").get_role(RoleName="bindery-task-step")["Role"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == world.server.account


def test_the_queue_listens_to_our_bucket_alone(world: Stack) -> None:
    sqs = world.server.client("sqs")
    url = sqs.get_queue_url(QueueName="bindery-uploads")["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    allowed = [each for each in json.loads(told["Policy"])["Statement"] if each["Effect"] == "Allow"]
    (statement,) = allowed
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert listed(statement["Action"]) == ["sqs:SendMessage"]
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": "arn:aws:s3:::bindery-uploads-123456789012"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    assert json.loads(told["RedrivePolicy"])["deadLetterTargetArn"].endswith(":bindery-uploads-dead")
    assert told["SqsManagedSseEnabled"] == "true"


def test_an_upload_reaches_the_queue(world: Stack) -> None:
    sqs, storage = world.server.client("sqs"), world.server.client("s3")
    bucket = f"bindery-uploads-{world.server.account}"
    told = storage.get_bucket_notification_configuration(Bucket=bucket)
    (queue,) = told["QueueConfigurations"]
    assert sorted(queue["Events"]) == ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
    url = sqs.get_queue_url(QueueName="bindery-uploads")["QueueUrl"]
    # Our policy refuses whoever doesn't come by TLS, and to this server nobody does.
    policy = storage.get_bucket_policy(Bucket=bucket)["Policy"]
    with pytest.raises(ClientError, match="403"):
        storage.put_object(Bucket=bucket, Key="in/a b.csv", Body=b"1")
    storage.delete_bucket_policy(Bucket=bucket)
    storage.put_object(Bucket=bucket, Key="in/a b.csv", Body=b"1")
    storage.put_bucket_policy(Bucket=bucket, Policy=policy)
    keys: list[str] = []
    for _ in range(5):
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
            keys += [each["s3"]["object"]["key"] for each in json.loads(message["Body"]).get("Records", [])]
        if keys:
            break
    assert [unquote_plus(key) for key in keys] == ["in/a b.csv"]


@pytest.mark.parametrize("name", ["landing", "uploads", "output", "logs"])
def test_a_bucket_takes_nothing_in_the_clear(world: Stack, name: str) -> None:
    storage, bucket = world.server.client("s3"), f"bindery-{name}-123456789012"
    statements = json.loads(storage.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    closed = [each for each in statements if each["Effect"] == "Deny"]
    assert closed[0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert sorted(closed[0]["Resource"]) == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    assert all(storage.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())


def test_files_stay_readable() -> None:
    long = {path.name: lines for path in SOURCE.glob("*.tf") if (lines := len(path.read_text().splitlines())) > 330}
    assert long == {"variables.tf": long.get("variables.tf", 0)}
    assert Path(SOURCE / "terraform.tfvars.example").exists()
