"""The deploy itself: check, images, Terraform, secrets, migration, services; and the same backwards.

Each step begins by looking at what is there, so that the whole may be killed and repeated at any line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dagster_project.operations.deploy import migration, registry, secrets, services
from dagster_project.operations.deploy.errors import DeployError, DeployRefusedError
from dagster_project.operations.deploy.infrastructure import NO_IMAGE, Terraform, make_state_bucket
from dagster_project.operations.deploy.programs import Programs
from dagster_project.operations.deploy.release import Release, release_name

Say = Callable[[str], None]
REGISTRY = ("aws_ecr_repository.this", "aws_ecr_lifecycle_policy.this")
SERVICE_ROLES = (
    "ecs.amazonaws.com",
    "rds.amazonaws.com",
    "elasticloadbalancing.amazonaws.com",
    "ecs.application-autoscaling.amazonaws.com",
)
"""Services that act in the account by a role of their own, which a new account doesn't have."""


@dataclass
class Deploy:
    """One platform, and everything that is asked to bring it about."""

    programs: Programs
    terraform: Terraform
    session: Any
    """A boto3 session: region and login as everywhere else."""
    say: Say
    architecture: str = "X86_64"
    steps: int = 6
    _step: int = field(default=0, init=False)

    def client(self, service: str) -> Any:
        """Make a client."""
        return self.session.client(service)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say which step begins, and how long it took."""
        self._step += 1
        self.say(f"[{self._step}/{self.steps}] {name}")
        began = time.monotonic()
        yield
        self.say(f"      {name}: done in {time.monotonic() - began:.0f} s")

    def deploy(self, *, changed_too: bool = False) -> Release:
        """Bring the platform to the checkout.

        Raises:
            DeployError: A step failed; those before it are done, and repeating goes on there.
        """
        with self.step("check"):
            name = release_name(self.programs, changed_too=changed_too)
            self.prepare()
        with self.step("images"):
            release = self.push(name)
        self.bring(release)
        return release

    def prepare(self) -> None:
        """Make what Terraform itself needs: state, providers, and the roles that AWS's services act by."""
        for each in SERVICE_ROLES:
            make_service_role(self.client("iam"), each)
        if make_state_bucket(self.client("s3"), self.terraform.bucket, self.terraform.region):
            self.say(f"      made the bucket of Terraform's state: {self.terraform.bucket}")
        self.terraform.initialise()

    def push(self, name: str) -> Release:
        """Make repositories where there are none, and put the images of a release into them."""
        told = self.terraform.outputs().get("repositories")
        if not told:
            # The only thing that has to be there before there is an image.
            self.terraform.apply(NO_IMAGE, name, targets=REGISTRY)
            told = self.terraform.outputs()["repositories"]
        release = registry.push(self.programs, self.client("ecr"), told, name, architecture=self.architecture)
        for image, address in release.images.items():
            self.say(f"      {image}: {address}")
        return release

    def bring(self, release: Release) -> None:
        """Bring the platform to a release whose images are in the registry."""
        with self.step("infrastructure"):
            self.terraform.apply(release.images, release.name)
            told = self.terraform.outputs()
        with self.step("secrets"):
            store = secrets.Store.of(told["secrets"]["from"], self.session)
            made = secrets.fill(store, told["secrets"]["names"])
            self.say(f"      made {', '.join(made)}" if made else "      every secret is there")
        ecs = self.client("ecs")
        with self.step("migration"):
            migration.migrate(
                ecs, self.client("logs"), told["cluster"], told["migrate"], told["log_group"], self._inside
            )
        with self.step("services"):
            for service in services.sleepers(told["services"]):
                # Long enough to be looked at before it sleeps again.
                services.wake(ecs, told["cluster"], service, 900)
            services.roll(ecs, told["cluster"], told["services"], self._inside)

    def _inside(self, line: str) -> None:
        self.say(f"      {line}")

    def releases(self, told: dict[str, Any]) -> list[Release]:
        """List the releases that task definitions are kept of, the newest first."""
        ecs, family = self.client("ecs"), f"{told['project']}-run"
        pages = ecs.get_paginator("list_task_definitions").paginate(familyPrefix=family, sort="DESC")
        found: list[Release] = []
        for arn in (each for page in pages for each in page["taskDefinitionArns"]):
            if arn.rpartition("/")[2].partition(":")[0] != family or len(found) >= 20:
                continue
            described = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
            tags = {each["key"]: each["value"] for each in described.get("tags", [])}
            container = described["taskDefinition"]["containerDefinitions"][0]
            settings = {each["name"]: each["value"] for each in container["environment"]}
            images = {"dagster": container["image"], "dbt": settings["BINDERY_DBT_IMAGE"]}
            if all(each.images != images for each in found):
                found.append(Release(tags.get("bindery.release", "unknown"), images))
        return found

    def rollback(self, to: str | None = None) -> Release:
        """Bring the platform to the release before the one that runs, or to one by name.

        The release's own migration is asked first: where a newer one has changed the tables in a way that it can't work
        with, it says so, and nothing is rolled.

        Raises:
            DeployRefusedError: There is no such release.
            DeployError: A step failed.
        """
        self.steps = 5
        with self.step("check"):
            self.prepare()
            told = self.terraform.outputs()
            if not told:
                raise DeployRefusedError("nothing is deployed: `bindery deploy aws`")
            now = {name: told["image"][name] for name in ("dagster", "dbt")}
            known = self.releases(told)
            others = [each for each in known if each.images != now]
            chosen = [each for each in known if each.name == to] if to else others
            if not chosen:
                listed = ", ".join(each.name for each in others) or "none"
                raise DeployRefusedError(
                    f"there is no release to go back to{f' named {to}' if to else ''}; there are: {listed}"
                )
            self.say(f"      from {told['image']['release']} to {chosen[0].name}")
        self.bring(chosen[0])
        return chosen[0]

    def destroy(self, *, with_data: bool) -> list[str]:
        """Take the platform down; its data only if that is said.

        Returns:
            What is left.
        """
        self.prepare()
        told = self.terraform.outputs()
        if told and with_data:
            store = secrets.Store.of(told["secrets"]["from"], self.session)
            left = self.terraform.destroy(with_data=True)
            if store.kind == "ssm":
                store.remove(store.names())
            return left
        return self.terraform.destroy(with_data=with_data)


def make_service_role(iam: Any, service: str) -> None:
    """Make the role by which one of AWS's services acts in this account, where it isn't there.

    Raises:
        DeployError: The login may not, and nobody knows whether it is there.
    """
    from botocore.exceptions import ClientError

    try:
        iam.create_service_linked_role(AWSServiceName=service)
    except ClientError as error:
        told = error.response.get("Error", {})
        # Two ways of saying that there is one.
        taken = told.get("Code") == "InvalidInput" and "has been taken" in str(told.get("Message"))
        if taken or told.get("Code") == "EntityAlreadyExists":
            return
        raise DeployError(
            f"the role of {service} can't be made: {error}. The login needs iam:CreateServiceLinkedRole, once in the "
            "life of an account"
        ) from None
