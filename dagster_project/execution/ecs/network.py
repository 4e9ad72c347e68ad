"""The network of tasks before any is started: subnets, security groups, and the way to the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagster_project.execution.ecs.looks import Look, Looks
from dagster_project.execution.ecs.tasks import Place

ENDPOINTS = ("ecr.api", "ecr.dkr", "logs", "secretsmanager", "ecs")
"""Services that a task without a way to the internet needs a VPC endpoint of; S3's is a gateway's."""
LEAST_ADDRESSES = 16


def check_network(place: Place, ec2: Any) -> Looks:
    """Look for subnets and security groups, in one VPC, with addresses left."""
    subnets = _known(lambda ids: ec2.describe_subnets(SubnetIds=ids)["Subnets"], place.subnets)
    groups = _known(lambda ids: ec2.describe_security_groups(GroupIds=ids)["SecurityGroups"], place.security_groups)
    for kind, setting, wanted, found in (
        ("subnets", "BINDERY_ECS_SUBNETS", place.subnets, {each["SubnetId"] for each in subnets}),
        ("security groups", "BINDERY_ECS_SECURITY_GROUPS", place.security_groups, {each["GroupId"] for each in groups}),
    ):
        if missing := set(wanted) - found:
            yield Look(kind, "fail", f"{', '.join(sorted(missing))} isn't in this account and region", setting)
        else:
            yield Look(kind, "ok", ", ".join(wanted))
    if len(networks := {each["VpcId"] for each in [*subnets, *groups]}) > 1:
        said = f"subnets and security groups are of several VPCs: {', '.join(sorted(networks))}"
        yield Look("network", "fail", said, "name those of one VPC in BINDERY_ECS_SUBNETS and _SECURITY_GROUPS")
    for subnet in subnets:
        if (left := int(subnet.get("AvailableIpAddressCount", LEAST_ADDRESSES))) < LEAST_ADDRESSES:
            said = f"{subnet['SubnetId']} has {left} addresses left, and each task takes one"
            yield Look("network", "warn", said, "name a larger subnet, or end what isn't needed")
    if subnets and len({each.get("AvailabilityZone") for each in subnets}) < 2:
        said = "all subnets are in one availability zone: where its Spot capacity ends, all of it does"
        yield Look("network", "warn", said, "name a subnet of another zone in BINDERY_ECS_SUBNETS")
    for group in groups:
        if not group.get("IpPermissionsEgress"):
            said = f"{group['GroupId']} lets nothing out: no image can be pulled"
            yield Look("security groups", "fail", said, "allow it to reach port 443, and Postgres at its port")


def _known(ask: Callable[[list[str]], Sequence[Any]], wanted: Sequence[str]) -> list[Any]:
    """Ask for each alone: one that doesn't exist refuses the question about all."""
    from botocore.exceptions import ClientError

    found: list[Any] = []
    for name in wanted:
        try:
            found.extend(ask([name]))
        except ClientError as error:
            if ".NotFound" not in error.response.get("Error", {}).get("Code", ""):
                raise
    return found


def check_way_out(place: Place, ec2: Any) -> Looks:
    """Look for what leads from each subnet to the registry: an internet gateway, a NAT gateway, VPC endpoints."""
    for subnet in _known(lambda ids: ec2.describe_subnets(SubnetIds=ids)["Subnets"], place.subnets):
        name, network = subnet["SubnetId"], subnet["VpcId"]
        route = _default_route(ec2, name, network)
        gateway = str(route.get("GatewayId", ""))
        if gateway.startswith("igw-"):
            if place.public_ip:
                yield Look("way out", "ok", f"{name}: internet gateway, tasks have public addresses")
            else:
                yield Look(
                    "way out",
                    "fail",
                    f"{name} has an internet gateway, which serves public addresses alone, and tasks get none: they "
                    "can't pull their image (CannotPullContainerError, i/o timeout)",
                    "BINDERY_ECS_PUBLIC_IP=true, or subnets behind a NAT gateway",
                )
        elif route:
            yield Look(
                "way out", "ok", f"{name}: {next((str(v) for k, v in route.items() if k.endswith('Id')), 'a route')}"
            )
        else:
            yield _look_at_endpoints(ec2, name, network)


def _default_route(ec2: Any, subnet: str, network: str) -> Mapping[str, Any]:
    filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
    tables = ec2.describe_route_tables(Filters=filters)["RouteTables"]
    if not tables:
        main = [{"Name": "vpc-id", "Values": [network]}, {"Name": "association.main", "Values": ["true"]}]
        tables = ec2.describe_route_tables(Filters=main)["RouteTables"]
    for table in tables:
        for route in table["Routes"]:
            if route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State", "active") == "active":
                found: Mapping[str, Any] = route
                return found
    return {}


def _look_at_endpoints(ec2: Any, subnet: str, network: str) -> Look:
    told = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [network]}])["VpcEndpoints"]
    there = {".".join(str(each["ServiceName"]).split(".")[3:]) for each in told}
    if missing := [each for each in (*ENDPOINTS, "s3") if each not in there]:
        return Look(
            "way out",
            "fail",
            f"{subnet} has no way to the internet, and the VPC no endpoint of {', '.join(missing)}: tasks can't start",
            "make the endpoints (s3's is a gateway), a NAT gateway, or use public subnets with "
            "BINDERY_ECS_PUBLIC_IP=true",
        )
    return Look("way out", "ok", f"{subnet}: VPC endpoints, nothing else")
