"""Terraform over a copy of deploy/terraform, against the server that stands in for AWS.

The copy has one file more, which overrides what that server doesn't have; ``LACKS`` says what and why, and docs/aws.md
says the same. Missing programs fail the tests: nothing is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.aws.moto import Moto

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "deploy" / "terraform"
PLUGINS = Path(os.environ.get("BINDERY_TERRAFORM_PLUGINS", "/usr/local/share/terraform/plugins"))
SIZES = ("minimal", "small", "production")
IMAGES = {
    "dagster_image": f"{'1' * 12}.dkr.ecr.eu-central-1.amazonaws.com/bindery/dagster@sha256:{'a' * 64}",
    "dbt_image": f"{'1' * 12}.dkr.ecr.eu-central-1.amazonaws.com/bindery/dbt@sha256:{'b' * 64}",
}
LACKS = {
    "aws_sqs_queue_redrive_allow_policy.dead": "moto forgets RedriveAllowPolicy, and the provider waits for it",
    "aws_appautoscaling_target.platform": "moto has no ListTagsForResource of Application Auto Scaling",
    "aws_appautoscaling_policy.wake": "needs the target",
    "aws_cloudwatch_metric_alarm.uploads_wait": "needs the policy",
    "aws_budgets_budget.this": "moto has no DescribeSubscribersForNotification of Budgets",
}
"""Resources that are left out of an apply against moto. A plan has them all."""
PROVIDER = """
terraform {
  backend "local" {}
}

provider "aws" {
  s3_use_path_style       = true
  skip_metadata_api_check = true
  max_retries             = 3
}
"""


@dataclass
class Stack:
    """One copy, and what it is run with."""

    folder: Path
    server: Moto
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every start."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
        config = self.folder / "terraform.rc"
        config.touch()
        plugins = f" -plugin-dir={PLUGINS}" if PLUGINS.is_dir() else ""
        return {
            **own,
            **self.server.environment,
            "TF_CLI_CONFIG_FILE": str(config),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_ARGS_init": f"-input=false -no-color{plugins}",
            **{f"TF_VAR_{name}": value for name, value in self.variables.items()},
        }

    def run(self, *words: str, timeout: float = 900) -> str:
        """Run Terraform and give what it prints; an error fails the test with it."""
        assert shutil.which("terraform"), "these tests need terraform 1.11 or newer: docs/aws.md"
        done = subprocess.run(
            ["terraform", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"terraform {' '.join(words)}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def plan(self) -> dict[str, Any]:
        """Plan, and give the plan as Terraform shows it to machines."""
        self.run("plan", "-input=false", "-lock=false", "-out=it.plan")
        shown: dict[str, Any] = json.loads(self.run("show", "-json", "it.plan"))
        return shown

    def apply(self, *targets: str) -> None:
        """Make it, or a part of it."""
        aimed = [f"-target={target}" for target in targets]
        self.run("apply", "-input=false", "-auto-approve", "-parallelism=20", *aimed)

    def outputs(self) -> dict[str, Any]:
        """Give its outputs."""
        return {name: each["value"] for name, each in json.loads(self.run("output", "-json")).items()}


def copy(folder: Path, server: Moto, size: str, *, whole: bool, **variables: str) -> Stack:
    """Copy the description and get it ready.

    Args:
        folder: Empty.
        server: Stands in for AWS.
        size: Of the platform.
        whole: With what moto lacks, to be planned; without, to be applied.
        variables: Further ones.
    """
    shutil.copytree(
        SOURCE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfvars", "*.tfstate*"), dirs_exist_ok=True
    )
    left_out = "" if whole else "\n".join(without(each) for each in LACKS)
    (folder / "stand_in_override.tf").write_text(PROVIDER + left_out)
    values = {"region": server.region, "size": size, **IMAGES, **variables}
    if size != "minimal":
        values.setdefault("certificate_arn", certificate(server))
    made = Stack(folder, server, values)
    made.run("init")
    return made


def without(address: str) -> str:
    """Write the override that leaves a resource out."""
    kind, name = address.split(".")
    return f'\nresource "{kind}" "{name}" {{\n  count = 0\n}}\n'


def certificate(server: Moto) -> str:
    """Make a certificate for the load balancer."""
    return str(server.client("acm").request_certificate(DomainName="bindery.example.org")["CertificateArn"])


def resources(plan: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """Give the planned values of every resource of a kind, by address."""
    found = plan["planned_values"]["root_module"]["resources"]
    return {each["address"]: each["values"] for each in found if each["type"] == kind and each["mode"] == "managed"}
