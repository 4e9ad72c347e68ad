"""An account with everything that Terraform would have made for ECS, and an installation of Bindery in it.

The cluster, the network, images in the registry, secrets, buckets, a log group, task definitions; databases on the
test server; and Dagster's instance with deploy/instance/ecs, through which runs are launched as the daemon does it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from dagster_project.settings import ENV_FILE_VARIABLE, Settings, use_settings
from tests.aws.ecs_emulator.client import Ecs, emulator
from tests.integration.installation import Installation, installation
from tests.run import ROOT

if TYPE_CHECKING:
    import psycopg
    from dagster import DagsterInstance, DagsterRun, JobDefinition

PROJECT = "shop"
REGISTRY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
DAGSTER, DBT, OTHER = f"{REGISTRY}/bindery/dagster:1", f"{REGISTRY}/bindery/dbt:1", f"{REGISTRY}/custom/model:7"
LOG_GROUP = f"/bindery/{PROJECT}"
FAMILIES = {"run": DAGSTER, "step": DAGSTER, "step-dbt": DBT, "step-gpu": DAGSTER}
DAGSTER_HOME = ROOT / "deploy" / "instance" / "ecs"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
PATIENCE_S = 150


@dataclass
class World:
    """The account, the installation, and the instance."""

    ecs: Ecs
    place: Installation
    environment: Mapping[str, str]
    instance: DagsterInstance
    subnet: str
    group: str

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Give this process the environment of a service of the installation, and nothing else of the kind."""
        for key in list(os.environ):
            if key.startswith(("AWS_", "BINDERY_", "PG")):
                patch.delenv(key)
        for key, value in self.environment.items():
            patch.setenv(key, value)
        use_settings(None)

    def launch(
        self,
        job: JobDefinition,
        module: str,
        attribute: str,
        *,
        run_config: Mapping[str, Any] | None = None,
        assets: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Launch a job as the daemon does, without a daemon: nothing else decides when."""
        from dagster import AssetKey
        from dagster._core.code_pointer import ModuleCodePointer
        from dagster._core.definitions.reconstruct import ReconstructableRepository

        pointer = ModuleCodePointer(module, attribute, working_directory=str(ROOT))
        repository = ReconstructableRepository(pointer, entry_point=["dagster"])
        origin = repository.get_reconstructable_job(job.name).get_python_origin()
        chosen = {AssetKey.from_user_string(key) for key in assets}
        run = self.instance.create_run_for_job(
            job_def=job.get_subset(asset_selection=chosen) if chosen else job,
            run_config=fast(run_config or {}),
            tags=dict(tags or {}),
            job_code_origin=origin,
            remote_job_origin=_remote(job.name),
            asset_selection=frozenset(chosen) or None,
        )
        self.instance.launch_run(run.run_id, None)  # type: ignore[arg-type]  # our launcher asks no workspace
        return run.run_id

    def run(self, run_id: str) -> DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def finished(self, run_id: str, seconds: float = PATIENCE_S) -> str:
        wait_for(lambda: self.run(run_id).status.value in ENDED, seconds, lambda: self.log(run_id))
        return self.run(run_id).status.value

    def messages(self, run_id: str) -> list[str]:
        return [str(entry.user_message or entry.message) for entry in self.instance.all_logs(run_id)]

    def log(self, run_id: str) -> str:
        return "\n".join(
            [
                *(
                    f"{entry.step_key or ''}: {entry.message} {_error(entry)}"
                    for entry in self.instance.all_logs(run_id)
                ),
                *(
                    f"{task['family']} {task['status']} {self.printed(task['id'])}"
                    for task in self.ecs.started(run=run_id)
                ),
            ]
        )

    def kinds(self, run_id: str, step: str) -> list[str]:
        """What became of a step, in order."""
        wanted = ("STEP_START", "STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY", "STEP_RESTARTED")
        return [
            entry.dagster_event.event_type_value
            for entry in self.instance.all_logs(run_id)
            if entry.dagster_event is not None
            and entry.dagster_event.step_key == step
            and entry.dagster_event.event_type_value in wanted
        ]

    def failures(self, run_id: str) -> str:
        """What failed steps and runs say."""
        return "\n".join(
            f"{entry.message}\n{_error(entry)}"
            for entry in self.instance.all_logs(run_id)
            if entry.dagster_event is not None
            and (entry.dagster_event.is_failure or entry.dagster_event.is_step_up_for_retry)
        )

    def printed(self, task: str) -> list[str]:
        """The last lines of a task, out of CloudWatch."""
        logs = self.ecs.client("logs")
        streams = [each["logStreamName"] for each in logs.describe_log_streams(logGroupName=LOG_GROUP)["logStreams"]]
        for stream in streams:
            if stream.endswith(task):
                events = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream)["events"]
                return [event["message"] for event in events][-30:]
        return []

    def running(self, run_id: str, step: str, count: int = 1) -> str:
        """Wait until a step's task runs, and its code has begun; give the task."""

        def tasks() -> list[dict[str, Any]]:
            return self.ecs.started(run=run_id, step=step)

        wait_for(
            lambda: len(tasks()) >= count and self.kinds(run_id, step).count("STEP_START") >= count,
            PATIENCE_S,
            lambda: self.log(run_id),
        )
        return str(tasks()[-1]["id"])


def _error(entry: Any) -> str:
    event = entry.dagster_event
    error = getattr(event.event_specific_data, "error", None) if event is not None else None
    return error.to_string() if error is not None else ""


def fast(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Look at tasks each second: AWS isn't there to be spared."""
    return {**run_config, "execution": {"config": {"health_seconds": 1}}}


def wait_for(happened: Callable[[], bool], seconds: float, told: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)


def _remote(job: str) -> Any:
    from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="bindery")
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), job)


def furnish(ecs: Ecs, place: Installation, environment: Mapping[str, str]) -> tuple[str, str]:
    """Make what Terraform makes; give a subnet and a security group."""
    ec2 = ecs.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=vpc)["GroupId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    ecr = ecs.client("ecr")
    for image in (DAGSTER, DBT, OTHER):
        name, _, tag = image.partition("/")[2].rpartition(":")
        ecr.create_repository(repositoryName=name)
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"digest": f"sha256:{name.encode().hex():0<64.64}"},
            "layers": [],
        }
        ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag=tag)
    ecs.client("logs").create_log_group(logGroupName=LOG_GROUP)
    s3 = ecs.client("s3")
    for name in ("logs", "landing"):
        s3.create_bucket(Bucket=f"{PROJECT}-{name}", CreateBucketConfiguration={"LocationConstraint": ecs.region})
    secrets = ecs.client("secretsmanager")
    for path in sorted(place.settings.secrets_path.iterdir()):
        if path.is_file() and path.name.startswith("postgres_"):
            secrets.create_secret(Name=f"{PROJECT}/{path.name}", SecretString=path.read_text().strip())
    clients = ecs.client("ecs")
    clients.create_cluster(clusterName=PROJECT, capacityProviders=["FARGATE", "FARGATE_SPOT"])
    variables = {**environment, "BINDERY_ECS_SUBNETS": subnet, "BINDERY_ECS_SECURITY_GROUPS": group}
    for name, image in FAMILIES.items():
        register(ecs, f"{PROJECT}-{name}", image, variables)
    return subnet, group


def register(ecs: Ecs, family: str, image: str, environment: Mapping[str, str]) -> None:
    """Register a task definition as Terraform writes it."""
    options = {"awslogs-group": LOG_GROUP, "awslogs-region": ecs.region, "awslogs-stream-prefix": family}
    ecs.client("ecs").register_task_definition(
        family=family,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="512",
        memory="1024",
        executionRoleArn=f"arn:aws:iam::123456789012:role/{PROJECT}-execution",
        taskRoleArn=f"arn:aws:iam::123456789012:role/{PROJECT}-task-{'run' if family.endswith('run') else 'step'}",
        containerDefinitions=[
            {
                "name": "main",
                "image": image,
                "memory": 1024,
                "essential": True,
                "environment": [{"name": name, "value": value} for name, value in environment.items()],
                "secrets": [{"name": "PGPASSWORD", "valueFrom": f"{PROJECT}/postgres_dagster_password"}],
                "logConfiguration": {"logDriver": "awslogs", "options": options},
            }
        ],
    )


@contextmanager
def world(
    server: Settings,
    admin: psycopg.Connection[Any],
    folder: Path,
    name: str,
    *,
    backend: str = "processes",
    inside: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[World]:
    """Make all of it for the length of a block.

    Args:
        server: The test server.
        admin: A connection to it.
        folder: For what is written.
        name: Of the databases.
        backend: What tasks are: ``processes`` or ``engine``.
        inside: Variables of tasks that are different in this process.
        more: Further variables.
    """
    from dagster import DagsterInstance

    from dagster_project import warehouse
    from dagster_project.operations.instance import storage_url

    with (
        installation(server, admin, folder, name) as place,
        emulator(folder, backend) as ecs,
        pytest.MonkeyPatch.context() as patch,
    ):
        warehouse.ensure_ready(place.settings)
        settings = place.settings
        assert settings.database_url is not None
        address = urlsplit(settings.database_url.get_secret_value())
        url, passfile = storage_url(settings.dsn("dagster").get_secret_value())
        environment = {
            ENV_FILE_VARIABLE: "",
            "BINDERY_ENVIRONMENT": "ecs",
            "BINDERY_PROJECT": PROJECT,
            "BINDERY_DATABASE_URL": f"postgresql://{address.hostname}:{address.port}/postgres",
            "BINDERY_DATABASE_NAME": settings.database_name,
            "BINDERY_DAGSTER_DATABASE": settings.dagster_database,
            "BINDERY_DEBUG_DATABASE": settings.debug_database,
            "BINDERY_DAGSTER_URL": url,
            "BINDERY_DATA_DIR": str(folder / "data"),
            "BINDERY_DROP_DIR": str(folder / "drop"),
            "BINDERY_LANDING_URL": f"s3://{PROJECT}-landing/landing",
            "BINDERY_LOGS_BUCKET": f"{PROJECT}-logs",
            "BINDERY_SECRETS_FROM": f"secretsmanager:{PROJECT}/",
            "BINDERY_DAGSTER_IMAGE": DAGSTER,
            "BINDERY_DBT_IMAGE": DBT,
            "DAGSTER_HOME": str(DAGSTER_HOME),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
            **(more or {}),
        }
        subnet, group = furnish(ecs, place, {**environment, **(inside or {})})
        (folder / "pgpass").write_text(passfile)
        (folder / "pgpass").chmod(0o600)
        own = {
            **environment,
            **ecs.environment,
            "BINDERY_ECS_SUBNETS": subnet,
            "BINDERY_ECS_SECURITY_GROUPS": group,
            "PGPASSFILE": str(folder / "pgpass"),
        }
        World(ecs, place, own, None, subnet, group).enter(patch)  # type: ignore[arg-type]  # there is none yet
        with DagsterInstance.from_config(str(DAGSTER_HOME)) as instance:
            yield World(ecs, place, own, instance, subnet, group)
