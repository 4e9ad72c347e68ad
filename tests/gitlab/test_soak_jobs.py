"""The long jobs of the pipeline in a local runner: a stack whose tables are compared, signatures, a server.

Minutes each: `make soak-gitlab`. The server is a container with sshd and the engine's socket; everything else is as in
production, but for the names.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.stack import docker, free_port, wait_for
from tests.gitlab.runner import Registry, Runner

pytestmark = pytest.mark.timeout(1800)
SERVER = Path(__file__).parent / "server"
LABEL = "com.docker.compose.project"
PASSPHRASE = "of-this-test-alone"


def test_a_stack_from_the_built_images_makes_the_tables_of_a_laptop(
    built: dict[str, str], runner: Runner, shared: Path
) -> None:
    assert built
    said = runner.run("tables", "integration", f"--volume={shared}:{shared}", SHARED_FOLDER=str(shared))
    assert re.findall(r"^ PASS +(\S+)", said, re.MULTILINE) == ["tables", "integration"]
    (line,) = set(re.findall(r"(\d+) tables, (\d+) rows, the same as", said))
    assert int(line[0]) > 10
    assert int(line[1]) > 1000
    assert docker("ps", "--all", "--quiet", "--filter", "name=^ci-") == "", "nothing is left"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that containers of other users may reach."""
    folder = tmp_path_factory.mktemp("shared")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    return folder


@dataclass
class Signed:
    """What was signed, and with what."""

    variables: dict[str, str]
    digests: dict[str, str]


@pytest.fixture(scope="session")
def signed(built: dict[str, str], said: str, runner: Runner) -> Signed:
    """Images that the job ``sign`` has signed, after it was refused to release them unsigned."""
    assert built
    runner.run("keys", "--file", "tests/gitlab/keys.yml", "--artifacts-to-source", COSIGN_PASSWORD=PASSPHRASE)
    keys = {
        "COSIGN_PRIVATE_KEY": (runner.clone / "cosign.key").read_text(),
        "COSIGN_PUBLIC_KEY": (runner.clone / "cosign.pub").read_text(),
        "COSIGN_PASSWORD": PASSPHRASE,
    }
    digests = {name.lower(): digest for name, digest in re.findall(r"([A-Z]+)_DIGEST=(sha256:[0-9a-f]{64})", said)}
    release = {**keys, "CI_COMMIT_TAG": "v1.2.3", "CI_COMMIT_BRANCH": ""}
    with pytest.raises(AssertionError, match="isn't signed by this project"):
        runner.run("release:images", "--network=host", **release)
    told = runner.run("sbom")
    assert "Python packages" in told
    of_main = {f"{name.upper()}_DIGEST": digest for name, digest in digests.items()}
    runner.run("sign", "--network=host", **keys, **of_main)
    return Signed(keys, digests)


def test_a_release_is_the_signed_image_under_another_name(signed: Signed, runner: Runner, registry: Registry) -> None:
    runner.run("release:images", "--network=host", **signed.variables, CI_COMMIT_TAG="v1.2.3", CI_COMMIT_BRANCH="")
    accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
    for name, digest in signed.digests.items():
        status, answer = registry.ask(f"/v2/team/bindery/bindery/{name}/manifests/v1.2.3", "--head", "--header", accept)
        assert (status, digest in answer) == ("200", True)


def test_another_key_opens_nothing(signed: Signed, runner: Runner) -> None:
    runner.run("keys", "--file", "tests/gitlab/keys.yml", "--artifacts-to-source", COSIGN_PASSWORD=PASSPHRASE)
    other = {**signed.variables, "COSIGN_PUBLIC_KEY": (runner.clone / "cosign.pub").read_text()}
    with pytest.raises(AssertionError, match="isn't signed by this project"):
        runner.run("release:images", "--network=host", **other, CI_COMMIT_TAG="v1.2.4", CI_COMMIT_BRANCH="")


@pytest.fixture
def server(shared: Path, registry: Registry) -> Iterator[dict[str, str]]:
    """A server to deploy to; gives the variables that name it."""
    image, name, path = f"{registry.name}-server", f"{registry.name}-server", shared / "srv"
    docker("build", "--quiet", "--tag", image, str(SERVER))
    (path / "drop").mkdir(parents=True)
    path.chmod(0o755)
    project = f"{registry.name}-deployed"
    (path / ".env").write_text(f"BINDERY_PORT={free_port()}\nCOMPOSE_PROJECT_NAME={project}\n")
    key = shared / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    docker(
        *("run", "--detach", "--name", name, "--label", f"bindery.project={registry.name}", "--network", "host"),
        *("--volume", "/var/run/docker.sock:/var/run/docker.sock", "--volume", f"{path}:{path}", image),
        *("/usr/sbin/sshd", "-D", "-e", "-p", (port := str(free_port())), "-o", "ListenAddress=127.0.0.1"),
    )
    docker("exec", "-i", name, "sh", "-c", "cat >/root/.ssh/authorized_keys", text=key.with_suffix(".pub").read_text())
    hosts = shared / "hosts"

    def listens() -> bool:
        scanned = subprocess.run(["ssh-keyscan", "-p", port, "127.0.0.1"], capture_output=True, text=True, timeout=30)
        hosts.write_text(scanned.stdout)
        return bool(scanned.stdout)

    wait_for("sshd", 30, listens)
    try:
        yield {
            "DEPLOY_HOST": f"ssh://root@127.0.0.1:{port}",
            "DEPLOY_PATH": str(path),
            "STAGING_URL": "http://localhost",
            "DEPLOY_SSH_KEY": str(key),
            "DEPLOY_KNOWN_HOSTS": str(hosts),
        }
    finally:
        left = docker("ps", "--all", "--quiet", "--filter", f"label=bindery.project={project}").split()
        if left:
            docker("rm", "--force", *left, check=False)
        for words in (("ps", "--all", "--quiet"), ("volume", "ls", "--quiet"), ("network", "ls", "--quiet")):
            found = docker(*words, "--filter", f"label={LABEL}={project}").split()
            kind = [] if words[0] == "ps" else [words[0]]
            if found:
                docker(*kind, "rm", "--force", *found, check=False)
        docker("rm", "--force", name, check=False)
        docker("image", "rm", image, check=False)


def test_main_is_deployed_over_ssh_and_rolled_back(
    signed: Signed, runner: Runner, registry: Registry, server: dict[str, str], shared: Path
) -> None:
    deployed = {**signed.variables, **server, "HEALTHY_SECONDS": "300"}
    words = ("--network=host", f"--volume={shared}:{shared}")
    said = runner.run("deploy:staging", *words, **deployed)
    assert f"runs: {runner.commit}" in said
    for name, digest in signed.digests.items():
        assert any(each.endswith(digest) for each in repository_digests(runner.image(name)))
    project = f"{LABEL}={registry.name}-deployed"
    running = docker("ps", "--filter", f"label={project}", "--format", "{{.Image}}").split()
    assert running.count(runner.image("dagster")) >= 6
    with pytest.raises(AssertionError, match="no release before this one"):
        runner.run("rollback:staging", *words, **deployed)


def repository_digests(image: str) -> list[str]:
    found: list[str] = json.loads(docker("image", "inspect", "-f", "{{json .RepoDigests}}", image))
    return found
