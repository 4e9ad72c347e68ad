"""The deploy against the server that stands in for AWS: images, secrets, migration, services, sleep, and what it costs.

Docker and Terraform are programs that remember what they were asked.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from dagster_project.operations.deploy import migration, registry, rest, secrets, services
from dagster_project.operations.deploy.errors import DeployError, DeployRefusedError
from dagster_project.operations.deploy.flow import Deploy, make_service_role
from dagster_project.operations.deploy.infrastructure import Terraform, make_state_bucket, read_values
from dagster_project.operations.deploy.programs import Programs
from dagster_project.operations.deploy.release import release_name
from tests.aws.moto import Moto
from tests.aws.terraform import SOURCE

FAKE = """#!/usr/bin/env python3
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
name = Path(__file__).name
typed = sys.stdin.read() if "--password-stdin" in sys.argv else ""
with (here / "asked.jsonl").open("a") as asked:
    asked.write(json.dumps([name, *sys.argv[1:], *([typed] if typed else [])]) + "\\n")
if name == "docker" and sys.argv[1] == "push":
    import boto3
    repository, _, tag = sys.argv[2].partition("/")[2].rpartition(":")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "x": tag}
    boto3.client("ecr").put_image(repositoryName=repository, imageTag=tag, imageManifest=json.dumps(manifest))
if name == "terraform" and "output" in sys.argv:
    print((here / "outputs.json").read_text())
if name == "terraform" and "list" in sys.argv:
    print((here / "addresses.txt").read_text())
if (here / f"{name}-fails").exists() and sys.argv[1] == (here / f"{name}-fails").read_text():
    sys.exit("no space left on device")
"""


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """Put programs into a folder that only remember."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "terraform"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    (folder / "addresses.txt").write_text("")
    return folder


@pytest.fixture
def programs(aws: Moto, fakes: Path, tmp_path: Path) -> Programs:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        subprocess.run(git, cwd=checkout, check=True)
    return Programs(checkout, {**os.environ, "PATH": f"{fakes}:{os.environ['PATH']}"})


def asked(fakes: Path) -> list[list[str]]:
    file = fakes / "asked.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def session(aws: Moto) -> Any:
    return boto3.session.Session()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (migration, services):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


def task_definition(ecs: Any, family: str, image: str, release: str = "r1") -> str:
    container = {
        "name": "main",
        "image": image,
        "memory": 512,
        "environment": [{"name": "BINDERY_DBT_IMAGE", "value": image.replace("dagster", "dbt")}],
    }
    made = ecs.register_task_definition(
        family=family,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        containerDefinitions=[container],
        tags=[{"key": "bindery.release", "value": release}],
    )
    return str(made["taskDefinition"]["taskDefinitionArn"])


@pytest.fixture
def world(session: Any, fakes: Path) -> dict[str, Any]:
    """Make what an apply would have made, and have Terraform tell of it."""
    ecs, ec2 = session.client("ecs"), session.client("ec2")
    ecs.create_cluster(clusterName="bindery")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    image = f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/bindery/dagster@sha256:{'a' * 64}"
    definitions = {name: task_definition(ecs, f"bindery-{name}", image) for name in ("run", "migrate", "platform")}
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}
    ecs.create_service(
        cluster="bindery",
        serviceName="bindery-platform",
        taskDefinition=definitions["platform"],
        desiredCount=0,
        launchType="FARGATE",
        networkConfiguration=network,
    )
    for name in ("dagster", "dbt"):
        session.client("ecr").create_repository(repositoryName=f"bindery/{name}")
    host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    told = {
        "project": "bindery",
        "region": "eu-central-1",
        "size": "minimal",
        "cluster": "bindery",
        "services": {"bindery-platform": {"task_definition": definitions["platform"], "tasks": 1}},
        "migrate": {
            "task_definition": definitions["migrate"],
            "subnets": [subnet],
            "security_groups": [group],
            "public_ip": True,
        },
        "repositories": {name: f"{host}/bindery/{name}" for name in ("dagster", "dbt")},
        "secrets": {"from": "ssm:/bindery/", "names": ["postgres_dagster_password", "postgres_owner_password"]},
        "log_group": "/bindery/bindery",
        "image": {"dagster": image, "dbt": image.replace("dagster", "dbt"), "release": "r1"},
        "ui": "",
    }
    (fakes / "outputs.json").write_text(json.dumps({name: {"value": value} for name, value in told.items()}))
    return told


def deploy_of(programs: Programs, session: Any, said: list[str]) -> Deploy:
    terraform = Terraform(programs, SOURCE, SOURCE / "terraform.tfvars", "bindery", "eu-central-1", "123456789012")
    return Deploy(programs, terraform, session, said.append)


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Let services become healthy at once: the stand-in runs none. Remember what they were brought to."""
    waited: list[tuple[str, str]] = []

    def wait(ecs: Any, cluster: str, service: str, definition: str, say: Any) -> None:
        found = services.look(ecs, cluster, service)
        assert found["taskDefinition"] == definition
        assert found["desiredCount"] == 1
        waited.append((service, definition))

    monkeypatch.setattr(services, "wait", wait)
    return waited


@pytest.mark.usefixtures("quick")
def test_a_deploy_does_everything_once_and_its_repetition_nothing_twice(
    programs: Programs, session: Any, fakes: Path, world: dict[str, Any], healthy: list[tuple[str, str]]
) -> None:
    said: list[str] = []
    release = deploy_of(programs, session, said).deploy()
    words = [each[1:3] if each[0] == "terraform" else each[1:2] for each in asked(fakes)]
    programs_used = [each[0] for each in asked(fakes)]
    assert programs_used.count("docker") == 1 + 2 * 2
    assert [each for each in words if each == ["push"]] == [["push"], ["push"]]
    assert all("@sha256:" in address for address in release.images.values())
    applied = next(each for each in asked(fakes) if "apply" in each)
    assert f"-var=dagster_image={release.images['dagster']}" in applied
    assert "-target=aws_ecr_repository.this" not in applied
    assert healthy == [("bindery-platform", world["services"]["bindery-platform"]["task_definition"])]
    store = secrets.Store.of("ssm:/bindery/", session)
    made = store.find("postgres_owner_password")
    assert made
    assert made not in "\n".join(said) + json.dumps(asked(fakes))
    parameter = session.client("ssm").get_parameter(Name="/bindery/postgres_owner_password")["Parameter"]
    assert parameter["Type"] == "SecureString"
    assert session.client("s3").get_bucket_versioning(Bucket="bindery-terraform-123456789012")["Status"] == "Enabled"
    assert [line for line in said if line.startswith("[")] == [
        f"[{number}/6] {name}"
        for number, name in enumerate(("check", "images", "infrastructure", "secrets", "migration", "services"), 1)
    ]
    (fakes / "asked.jsonl").unlink()
    assert deploy_of(programs, session, []).deploy() == release
    assert [each for each in asked(fakes) if each[0] == "docker"] == []
    assert store.find("postgres_owner_password") == made


@pytest.mark.usefixtures("quick")
def test_a_push_that_fails_is_said_and_done_again(
    programs: Programs, session: Any, fakes: Path, world: dict[str, Any], healthy: list[tuple[str, str]]
) -> None:
    (fakes / "docker-fails").write_text("build")
    with pytest.raises(DeployError, match=r"`docker build .*` ended with 1, see above"):
        deploy_of(programs, session, []).deploy()
    assert healthy == []
    assert not any("apply" in each for each in asked(fakes))
    (fakes / "docker-fails").unlink()
    deploy_of(programs, session, []).deploy()
    assert len(healthy) == 1


def test_the_login_never_stands_on_a_command_line(programs: Programs, session: Any, fakes: Path) -> None:
    registry.login(programs, session.client("ecr"))
    (words,) = asked(fakes)
    assert words[:5] == ["docker", "login", "--username", "AWS", "--password-stdin"]
    assert words[5].startswith("https://")


def test_changes_that_nobody_could_build_again_are_refused(programs: Programs) -> None:
    clean = release_name(programs, changed_too=False)
    (programs.folder / "new.py").write_text("1")
    with pytest.raises(DeployRefusedError, match=r"\?\? new.py"):
        release_name(programs, changed_too=False)
    first = release_name(programs, changed_too=True)
    assert first.startswith(f"{clean}-changed-")
    (programs.folder / "new.py").write_text("2")
    assert release_name(programs, changed_too=True) != first


@pytest.mark.usefixtures("quick")
def test_a_command_runs_in_a_task_with_the_rights_of_the_services(session: Any, world: dict[str, Any]) -> None:
    ecs, logs = session.client("ecs"), session.client("logs")
    task_definition(ecs, "bindery-step", world["image"]["dagster"])
    started: list[dict[str, Any]] = []
    ecs.meta.events.register("provide-client-params.ecs.RunTask", lambda params, **_more: started.append(dict(params)))
    code, lines = migration.run_once(ecs, logs, world, ["bindery", "inbox", "list"], "123456789012", lambda _line: None)
    (asked_for,) = started
    assert asked_for["overrides"]["taskRoleArn"] == "arn:aws:iam::123456789012:role/bindery-task-platform"
    assert asked_for["overrides"]["containerOverrides"] == [{"name": "main", "command": ["bindery", "inbox", "list"]}]
    assert (code, lines) in [(0, []), (None, [])]


@pytest.mark.usefixtures("quick")
def test_a_rollback_takes_the_images_of_the_release_before(
    programs: Programs, session: Any, fakes: Path, world: dict[str, Any], healthy: list[tuple[str, str]]
) -> None:
    older = world["image"]["dagster"].replace("a" * 64, "0" * 64)
    ecs = session.client("ecs")
    task_definition(ecs, "bindery-run", older, "r0")
    task_definition(ecs, "bindery-run", world["image"]["dagster"])
    task_definition(ecs, "bindery-runner", older.replace("0" * 64, "9" * 64), "of others")
    said: list[str] = []
    release = deploy_of(programs, session, said).rollback()
    assert (release.name, release.images["dagster"]) == ("r0", older)
    assert release.images["dbt"] == older.replace("dagster", "dbt")
    assert f"-var=dagster_image={older}" in next(each for each in asked(fakes) if "apply" in each)
    assert [each for each in asked(fakes) if each[0] == "docker"] == []
    with pytest.raises(DeployRefusedError, match="there are: r0"):
        deploy_of(programs, session, []).rollback("r7")


def test_destroying_keeps_what_holds_data(programs: Programs, session: Any, fakes: Path, world: dict[str, Any]) -> None:
    kept = [
        "aws_db_instance.this",
        "aws_db_subnet_group.this",
        'aws_s3_bucket.this["landing"]',
        "aws_ecr_repository.this",
        "aws_vpc.this[0]",
        'aws_subnet.database["a"]',
        "aws_security_group.database",
    ]
    gone = ['aws_ecs_service.this["platform"]', "aws_lb.ui[0]", 'aws_nat_gateway.this["a"]', "aws_sqs_queue.uploads"]
    (fakes / "addresses.txt").write_text("\n".join([*kept, "data.aws_caller_identity.this", *gone]))
    deploy_of(programs, session, []).destroy(with_data=False)
    (words,) = [each for each in asked(fakes) if "destroy" in each]
    assert [word.removeprefix("-target=") for word in words if word.startswith("-target=")] == gone
    store = secrets.Store.of("ssm:/bindery/", session)
    store.keep("postgres_owner_password", "kept until now")
    deploy_of(programs, session, []).destroy(with_data=True)
    last = [each for each in asked(fakes) if "destroy" in each][-1]
    assert "-var=delete_data=true" in last
    assert not any(word.startswith("-target=") for word in last)
    assert store.names() == []


@pytest.mark.parametrize("place", ["ssm:/bindery/", "secretsmanager:bindery/"])
def test_secrets_are_made_once_and_the_login_fits_its_password(session: Any, place: str) -> None:
    import bcrypt

    store = secrets.Store.of(place, session)
    names = ["ui_users", "operator_password", "postgres_api_password"]
    assert sorted(secrets.fill(store, names)) == sorted(names)
    assert secrets.fill(store, names) == []
    assert store.names() == sorted(names)
    user, _, hashed = str(store.find("ui_users")).partition(" ")
    assert user == "operator"
    assert bcrypt.checkpw(str(store.find("operator_password")).encode(), hashed.encode())
    secrets.set_secret(store, "GUTENBERG_TOKEN", "t")
    assert store.find("GUTENBERG_TOKEN") == "t"
    for name in ("postgres_api_password", "ui_users", "a/b"):
        with pytest.raises(DeployRefusedError):
            secrets.set_secret(store, name, "x")


def test_the_bucket_of_the_state_is_made_closed_and_twice_is_once(session: Any) -> None:
    storage = session.client("s3")
    assert make_state_bucket(storage, "bindery-terraform-123456789012", "eu-central-1") is True
    assert make_state_bucket(storage, "bindery-terraform-123456789012", "eu-central-1") is False
    closed = storage.get_public_access_block(Bucket="bindery-terraform-123456789012")
    assert all(closed["PublicAccessBlockConfiguration"].values())


def test_a_role_of_a_service_that_is_there_is_fine() -> None:
    from botocore.exceptions import ClientError

    class Iam:
        def __init__(self, code: str, message: str) -> None:
            self.error = {"Error": {"Code": code, "Message": message}}

        def create_service_linked_role(self, **_words: Any) -> None:
            raise ClientError(self.error, "CreateServiceLinkedRole")  # type: ignore[arg-type]

    make_service_role(Iam("InvalidInput", "Service role name X has been taken in this account"), "ecs.amazonaws.com")
    with pytest.raises(DeployError, match="iam:CreateServiceLinkedRole"):
        make_service_role(Iam("AccessDenied", "no"), "ecs.amazonaws.com")


def test_values_are_read_from_the_file_of_variables(tmp_path: Path) -> None:
    file = tmp_path / "x.tfvars"
    file.write_text('region = "eu-west-3"\n# size = "small"\nsize   = "minimal"\nalarm_email = "a@b"\n')
    assert read_values(file) == {"region": "eu-west-3", "size": "minimal"}
    assert read_values(tmp_path / "none") == {}


@pytest.fixture
def instance() -> Iterator[Any]:
    from dagster import DagsterInstance

    with DagsterInstance.ephemeral() as made:
        yield made


def test_an_idle_platform_goes_to_sleep_and_a_busy_one_doesnt(
    session: Any, world: dict[str, Any], instance: Any
) -> None:
    ecs, sqs = session.client("ecs"), session.client("sqs")
    queue = sqs.create_queue(QueueName="bindery-uploads")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="an upload")
    ecs.update_service(cluster="bindery", service="bindery-platform", desiredCount=1)
    platform = rest.Platform(instance, ecs, sqs, "bindery", "bindery-platform", queue)
    now, said = [0.0], list[str]()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] == 300:
            sqs.purge_queue(QueueUrl=queue)

    rest.rest(platform, 600, said.append, clock=lambda: now[0], sleep=sleep)
    assert said == ["awake for 1 uploads", "idle; sleeps in 600 s", "goes to sleep"]
    assert now[0] == 870  # busy until 270, idle for 600
    assert services.look(ecs, "bindery", "bindery-platform")["desiredCount"] == 0


def test_a_visitor_keeps_a_platform_awake(session: Any, world: dict[str, Any], instance: Any) -> None:
    ecs = session.client("ecs")
    platform = rest.Platform(instance, ecs, session.client("sqs"), "bindery", "bindery-platform", None)
    assert rest.busy_with(platform) is None
    services.wake(ecs, "bindery", "bindery-platform", 3600)
    assert services.look(ecs, "bindery", "bindery-platform")["desiredCount"] == 1
    assert "visitor" in str(rest.busy_with(platform))
