"""Terraform, started for one platform: its state in a bucket, its variables from the file and from the release."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_project.operations.deploy.errors import DeployError, DeployRefusedError
from dagster_project.operations.deploy.programs import Programs

NO_IMAGE = dict.fromkeys(("dagster", "dbt"), f"none@sha256:{'0' * 64}")
"""For what needs no images: the registry before the first push, and the way down."""
# Somebody else's deploy at the same time is waited for, not run into.
PATIENT = ("-lock-timeout=5m", "-compact-warnings")
KEPT = (
    "aws_db_",
    "aws_s3_bucket",
    "aws_secretsmanager_secret",
    "aws_ecr_",
    "aws_vpc",
    "aws_default_security_group",
    "aws_subnet",
    "aws_route_table",
    "aws_internet_gateway",
    "aws_security_group.database",
)
"""What holds data, and the network that the database is in: stays unless the data shall go. None but the database and
the bytes themselves costs anything. Dependencies come along: what is listed must need nothing that isn't."""
_ASSIGNMENT = re.compile(r'^\s*(project|region|size|cpu_architecture)\s*=\s*"([^"]*)"', re.MULTILINE)


def read_values(file: Path) -> dict[str, str]:
    """Read from a file of variables those that deploying needs itself."""
    return dict(_ASSIGNMENT.findall(file.read_text(encoding="utf-8"))) if file.exists() else {}


@dataclass
class Terraform:
    """One platform's Terraform."""

    programs: Programs
    folder: Path
    file: Path
    """terraform.tfvars."""
    project: str
    region: str
    account: str

    @property
    def bucket(self) -> str:
        """Bucket of the state."""
        return f"{self.project}-terraform-{self.account}"

    def _words(self, command: str) -> tuple[str, ...]:
        return ("terraform", f"-chdir={self.folder}", command)

    def _variables(self, images: Mapping[str, str], release: str, further: Mapping[str, str]) -> list[str]:
        values = {"project": self.project, "region": self.region, "release": release, **further}
        values |= {f"{name}_image": address for name, address in images.items()}
        words = [f"-var-file={self.file.absolute()}"] if self.file.exists() else []
        return words + [f"-var={name}={value}" for name, value in values.items()]

    def initialise(self) -> None:
        """Get providers and state. May be repeated.

        Raises:
            DeployError: Terraform is missing, too old, or can't reach its state.
        """
        place = {"bucket": self.bucket, "key": f"{self.project}/terraform.tfstate", "region": self.region}
        given = [f"-backend-config={name}={value}" for name, value in place.items()]
        self.programs.run(*self._words("init"), "-input=false", "-no-color", "-reconfigure", *given, quiet=True)

    def apply(
        self,
        images: Mapping[str, str],
        release: str,
        *,
        targets: Iterable[str] = (),
        further: Mapping[str, str] | None = None,
    ) -> None:
        """Make what is described.

        Raises:
            DeployError: Something can't be made; Terraform has said what.
        """
        aimed = [f"-target={address}" for address in targets]
        words = self._variables(images, release, further or {})
        self.programs.run(*self._words("apply"), "-input=false", "-auto-approve", *PATIENT, *aimed, *words)

    def plan(self, images: Mapping[str, str], release: str) -> None:
        """Show what an apply would change, and change nothing.

        Raises:
            DeployError: The description is wrong.
        """
        self.programs.run(*self._words("plan"), "-input=false", "-lock=false", *self._variables(images, release, {}))

    def outputs(self) -> dict[str, Any]:
        """Give what the platform's description says of itself; nothing before the first apply."""
        told: dict[str, Any] = json.loads(self.programs.ask(*self._words("output"), "-json") or "{}")
        return {name: each["value"] for name, each in told.items()}

    def addresses(self) -> list[str]:
        """List what there is."""
        try:
            return self.programs.ask(*self._words("state"), "list").split()
        except DeployError as error:
            if "No state file was found" in str(error):
                return []
            raise

    def destroy(self, *, with_data: bool) -> list[str]:
        """Take down what costs money by the hour; with the data: everything.

        Returns:
            What is left.

        Raises:
            DeployError: Something can't be removed.
        """
        if with_data:
            allowed = {"delete_data": "true", "database_protected": "false"}
            there = [each for each in self.addresses() if each.startswith(("aws_s3_bucket.", "aws_db_instance."))]
            there += [each for each in self.addresses() if each.startswith(("aws_ecr_repository.", "aws_secrets"))]
            there += [each for each in self.addresses() if each.startswith("aws_lb.")]
            if there:
                self.apply(NO_IMAGE, "none", targets=there, further=allowed)
            self._destroy([], allowed)
            return self.addresses()
        gone = [each for each in self.addresses() if not each.startswith(("data.", *KEPT))]
        if gone:
            self._destroy([f"-target={address}" for address in gone], {})
        return self.addresses()

    def _destroy(self, aimed: list[str], further: Mapping[str, str]) -> None:
        words = [*aimed, *self._variables(NO_IMAGE, "none", further)]
        self.programs.run(*self._words("destroy"), "-input=false", "-auto-approve", *PATIENT, *words)


def make_state_bucket(storage: Any, bucket: str, region: str) -> bool:
    """Make the bucket of the state, versioned and private, where it isn't there.

    Returns:
        Whether it was made.

    Raises:
        DeployRefusedError: The name is somebody else's.
    """
    from botocore.exceptions import ClientError

    try:
        storage.head_bucket(Bucket=bucket)
        made = False
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in {"404", "NoSuchBucket"}:
            raise DeployRefusedError(
                f"the bucket {bucket}, which holds Terraform's state, can't be looked at: {error}. It may be another "
                "account's; another project name makes another bucket"
            ) from None
        # The one region that must not be named.
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        storage.create_bucket(Bucket=bucket, **place)
        made = True
    # Every time: a deploy may have been killed between making and closing it.
    storage.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    storage.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return made
