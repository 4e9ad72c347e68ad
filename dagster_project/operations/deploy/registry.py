"""Images into ECR in one go: login, build, push. What is there under the release's name is not made again."""

from __future__ import annotations

import base64
from typing import Any

from dagster_project.operations.deploy.errors import DeployError
from dagster_project.operations.deploy.programs import Programs
from dagster_project.operations.deploy.release import IMAGES, Release

PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}
BUILD = {
    "PACKAGE_GROUPS": "--group docker --group aws",
    "IMPORTS": "boto3.session botocore.client dagster_aws.ecs dagster_aws.s3.compute_log_manager",
}
"""Locked packages of the images: what they have under compose, and what speaks to AWS."""


def push(
    programs: Programs, ecr: Any, repositories: dict[str, str], name: str, *, architecture: str = "X86_64"
) -> Release:
    """Build and push what isn't there yet, and give the release by digest.

    Args:
        programs: Starts Docker in the checkout.
        ecr: Client.
        repositories: Image -> address of its repository.
        name: Of the release; the images' tag.
        architecture: What tasks run on.

    Raises:
        DeployError: Docker isn't there, the build fails, or the push is refused.
    """
    images: dict[str, str] = {}
    logged_in = False
    for image, file in IMAGES.items():
        address = repositories[image]
        digest = find(ecr, address, name)
        if digest is None:
            if not logged_in:
                login(programs, ecr)
                logged_in = True
            words = ["--target", "aws", "--platform", PLATFORMS[architecture], "--tag", f"{address}:{name}", "."]
            for argument, value in {**BUILD, "VERSION": name}.items():
                words += ["--build-arg", f"{argument}={value}"]
            programs.run("docker", "build", "--file", file, *words)
            programs.run("docker", "push", f"{address}:{name}")
            digest = find(ecr, address, name)
            if digest is None:
                raise DeployError(
                    f"docker pushed {address}:{name}, and the registry doesn't have it: look at its policy"
                )
        images[image] = f"{address}@{digest}"
    return Release(name, images)


def login(programs: Programs, ecr: Any) -> None:
    """Log Docker in with a token that lasts twelve hours.

    Raises:
        DeployError: Docker refuses it.
    """
    given = ecr.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(given["authorizationToken"]).decode().partition(":")
    host = str(given["proxyEndpoint"])
    programs.run("docker", "login", "--username", user, "--password-stdin", host, typed=password, quiet=True)


def find(ecr: Any, address: str, tag: str) -> str | None:
    """Give the digest of an image in its repository, or None where there is none of this tag."""
    from botocore.exceptions import ClientError

    repository = address.partition("/")[2]
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in {"ImageNotFoundException", "RepositoryNotFoundException"}:
            return None
        raise
    return str(found["imageDetails"][0]["imageDigest"])
