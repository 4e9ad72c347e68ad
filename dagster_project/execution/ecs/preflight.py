"""What has to be true before a task can start: cluster, network and the way out, task definitions, images, sizes.

Looks only, changes nothing. Each finding that isn't good says what to do. `bindery doctor aws` shows them; a role that
may not look gets a warning that names the right, because nothing is known then.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from dagster_project.execution.compute import Compute
from dagster_project.execution.ecs.looks import DENIED, Client, Look, Looks, guarded
from dagster_project.execution.ecs.network import check_network, check_way_out
from dagster_project.execution.ecs.sizes import SizeError, is_valid, size_of
from dagster_project.execution.ecs.tasks import CONTAINER, ON_DEMAND, SPOT, Place

_ECR = re.compile(r"^(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[^/]+/(?P<name>[^:@]+)[:@](?P<tag>.+)$")


def preflight(place: Place, classes: Mapping[str, Compute], database_url: str | None, client: Client) -> list[Look]:
    """Make every check.

    Args:
        place: Where tasks are to run.
        classes: Compute classes of the installation.
        database_url: Where Postgres listens; only host and port are looked at.
        client: Makes a boto3 client of a service.
    """
    checks: list[tuple[str, str, Callable[[], Looks]]] = [
        ("cluster", "ecs:DescribeClusters", lambda: check_cluster(place, client("ecs"))),
        ("network", "ec2:DescribeSubnets and ec2:DescribeSecurityGroups", lambda: check_network(place, client("ec2"))),
        (
            "way out",
            "ec2:DescribeRouteTables and ec2:DescribeVpcEndpoints",
            lambda: check_way_out(place, client("ec2")),
        ),
        (
            "task definitions",
            "ecs:DescribeTaskDefinition, ecr:DescribeImages, logs:DescribeLogGroups",
            lambda: check_families(place, client),
        ),
        ("sizes", "none", lambda: check_sizes(place, classes)),
        ("database", "none", lambda: check_database(database_url)),
    ]
    return [each for name, right, check in checks for each in guarded(name, right, check)]


def check_cluster(place: Place, ecs: Any) -> Looks:
    """Look for the cluster and its capacity providers."""
    told = ecs.describe_clusters(clusters=[place.cluster])["clusters"]
    if not told or told[0].get("status") != "ACTIVE":
        yield Look(
            "cluster", "fail", f"there is no active cluster {place.cluster}", "`make deploy`, or BINDERY_ECS_CLUSTER"
        )
        return
    yield Look("cluster", "ok", place.cluster)
    wanted = {ON_DEMAND, place.capacity, *filter(None, [place.gpu_provider])}
    if missing := wanted - set(told[0].get("capacityProviders") or []):
        words = f"aws ecs put-cluster-capacity-providers --cluster {place.cluster} --capacity-providers"
        yield Look(
            "capacity",
            "fail",
            f"the cluster has no capacity provider {', '.join(sorted(missing))}",
            f"`make deploy`, or `{words} FARGATE FARGATE_SPOT --default-capacity-provider-strategy "
            "capacityProvider=FARGATE`",
        )
    else:
        spot = "Spot first, then on demand" if place.capacity == SPOT else "on demand alone"
        yield Look("capacity", "ok", f"steps: {spot}; runs: on demand")


def check_families(place: Place, client: Client) -> Looks:
    """Look at each task definition that runs and steps use."""
    from botocore.exceptions import ClientError

    names = ["run", "step", "step-dbt", *(["step-gpu"] if place.gpu_provider else [])]
    for family in (f"{place.project}-{name}" for name in names):
        try:
            found = client("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in DENIED:
                raise
            yield Look(family, "fail", "there is no such task definition", "`make deploy` registers it")
            continue
        containers = [each for each in found["containerDefinitions"] if each["name"] == CONTAINER]
        if not containers:
            yield Look(family, "fail", f"it has no container {CONTAINER!r}", "`make deploy` registers it anew")
            continue
        bad = [*_judge(family, found, containers[0]), *_look_at_image(family, containers[0]["image"], client)]
        bad += _look_at_log(family, containers[0], client)
        yield from bad or [Look(family, "ok", f"revision {found['revision']}, {containers[0]['image']}")]


def _judge(family: str, found: Mapping[str, Any], container: Mapping[str, Any]) -> Looks:
    again = "`make deploy` registers it anew"
    if "FARGATE" in (found.get("requiresCompatibilities") or []):
        cpu, memory = int(found.get("cpu") or 0), int(found.get("memory") or 0)
        if not is_valid(cpu, memory):
            said = f"Fargate has no size of {cpu} CPU units and {memory} MiB"
            yield Look(family, "fail", said, f"{again}; docs/ecs.md lists the sizes")
    for role, what in (("executionRoleArn", "pull the image"), ("taskRoleArn", "read secrets and write to S3")):
        if not found.get(role):
            yield Look(family, "fail", f"it has no {role}: its tasks can't {what}", again)
    for each in container.get("environment") or []:
        if "://" in each.get("value", "") and urlsplit(each["value"]).password:
            said = f"{each['name']} holds a password, which everybody may read who may describe tasks"
            yield Look(family, "fail", said, "keep it in Secrets Manager; docs/ecs.md tells under which name")


def _look_at_image(family: str, image: str, client: Client) -> Looks:
    from botocore.exceptions import ClientError

    match = _ECR.match(image)
    if match is None:
        yield Look(
            family, "warn", f"{image} isn't in ECR, so nobody here can look for it", "`make deploy` pushes to ECR"
        )
        return
    tag = match["tag"]
    identity = {"imageDigest": tag} if tag.startswith("sha256:") else {"imageTag": tag}
    try:
        client("ecr").describe_images(registryId=match["account"], repositoryName=match["name"], imageIds=[identity])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in DENIED:
            raise
        yield Look(family, "fail", f"{image} isn't in the registry", "`make deploy` pushes images before it names them")


def _look_at_log(family: str, container: Mapping[str, Any], client: Client) -> Looks:
    group = (container.get("logConfiguration") or {}).get("options", {}).get("awslogs-group")
    if group is None:
        yield Look(family, "warn", "its tasks print into nothing", "logConfiguration: awslogs, as Terraform writes it")
        return
    told = client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    if group not in {each["logGroupName"] for each in told}:
        yield Look(family, "fail", f"its log group {group} isn't there: tasks don't start", "`make deploy` makes it")


def check_sizes(place: Place, classes: Mapping[str, Compute]) -> Looks:
    """Say what each compute class becomes."""
    said = []
    for compute in classes.values():
        try:
            said.append(f"{compute.name}: {size_of(compute, place.gpu_provider)}")
        except SizeError:
            said.append(f"{compute.name}: none (no BINDERY_ECS_GPU_CAPACITY_PROVIDER)")
    yield Look("sizes", "ok", "; ".join(said))


def check_database(url: str | None) -> Looks:
    """Open a connection to Postgres's port, without a word."""
    if url is None:
        yield Look("database port", "fail", "BINDERY_DATABASE_URL isn't set", "`make deploy` puts it into definitions")
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or 5432
    try:
        with socket.create_connection((host, port), timeout=5):
            yield Look("database port", "ok", f"{host}:{port} answers")
    except OSError as error:
        yield Look(
            "database port",
            "fail",
            f"{host}:{port} doesn't answer here: {error}",
            "its security group has to let in that of the tasks at this port; from outside of the VPC nobody reaches "
            "it, so ask inside: `aws ecs execute-command ... --command 'bindery doctor aws'`",
        )
