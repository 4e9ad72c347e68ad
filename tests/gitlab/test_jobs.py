"""Jobs of the pipeline, run by a local runner: what they push, test and hand on to the next."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.docker.stack import docker
from tests.gitlab.runner import Registry, Runner
from tests.unit.test_gitlab_pipeline import NIGHT, TAG, started

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("variables", [TAG, NIGHT], ids=["tag", "night"])
def test_a_runner_reads_the_pipeline_as_we_do(runner: Runner, variables: dict[str, str]) -> None:
    # A tag's pipeline has no branch; the runner takes one from the clone.
    listed = runner.run("--list-csv", **{"CI_COMMIT_BRANCH": "", **variables})
    names = {line.split(";")[0].split(": [")[0] for line in listed.splitlines() if re.match(r"[a-z:]+[;:]", line)}
    assert names - {"name"} == set(started(variables))


def test_lint_build_and_the_tests_inside_the_image_pass(said: str) -> None:
    assert re.findall(r"^ PASS +(\S+)", said, re.MULTILINE) == ["lint:files", "build", "test:image"]
    (closing,) = set(re.findall(r"(\d+) passed, 0 failed, 0 skipped", said))
    assert int(closing) > 100


def test_every_runner_can_have_the_images_by_commit(built: dict[str, str], registry: Registry, said: str) -> None:
    digests = dict(re.findall(r"([A-Z]+)_DIGEST=(sha256:[0-9a-f]{64})", said))
    kinds = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    for name, image in built.items():
        path, tag = image.removeprefix(registry.address).rsplit(":", 1)
        status, answer = registry.ask(f"/v2{path}/manifests/{tag}", "--head", "--header", f"Accept: {kinds}")
        assert status == "200", image
        if name != "test":
            assert digests[name.upper()] in answer, "the digest that is signed and deployed"
    assert registry.ask("/v2/_catalog", login=False)[0] == "401"


def test_the_image_that_is_tested_is_productions_and_more(built: dict[str, str]) -> None:
    layers = {
        name: json.loads(docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", built[name])) for name in built
    }
    assert layers["test"][: len(layers["dagster"])] == layers["dagster"]
    assert docker("image", "inspect", "-f", "{{.Config.User}}", built["test"]) == "10001:10001"


def test_labels_name_the_commit(built: dict[str, str], runner: Runner) -> None:
    for name in ("dagster", "dbt"):
        labels = json.loads(docker("image", "inspect", "-f", "{{json .Config.Labels}}", built[name]))
        assert labels["org.opencontainers.image.revision"] == runner.commit


class GitLab(BaseHTTPRequestHandler):
    """The part of GitLab's API that ``prune`` asks."""

    asked: ClassVar[list[tuple[str, str, str | None, dict[str, list[str]]]]] = []
    images = ("bindery/dagster", "bindery/dbt", "bindery/test", "bindery/cache", "other")

    def answer(self, body: bytes, status: int = 200) -> None:
        length = int(self.headers.get("Content-Length", 0))
        path = urlsplit(self.path).path
        self.asked.append(
            (self.command, path, self.headers["PRIVATE-TOKEN"], parse_qs(self.rfile.read(length).decode()))
        )
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        found = [{"id": 7 + place, "path": f"team/bindery/{name}"} for place, name in enumerate(self.images)]
        self.answer(json.dumps(found).encode())

    def do_DELETE(self) -> None:
        self.answer(b"202", 202)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gitlab() -> Iterator[str]:
    """Listens where a job's container finds it: on the engine's own network."""
    gateway = docker("network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}")
    server = ThreadingHTTPServer((gateway or "172.17.0.1", 0), GitLab)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    GitLab.asked.clear()
    yield f"http://{server.server_address[0]!s}:{server.server_port}/api/v4"
    server.shutdown()
    thread.join()
    server.server_close()


def test_old_images_are_pruned_by_policy_and_releases_stay(runner: Runner, gitlab: str) -> None:
    said = runner.run(
        "prune",
        CI_PIPELINE_SOURCE="schedule",
        CI_API_V4_URL=gitlab,
        CI_PROJECT_ID="42",
        PRUNE_TOKEN="glpat-not-a-token",
    )
    first, *others = GitLab.asked
    repositories = "/api/v4/projects/42/registry/repositories"
    assert first[:3] == ("GET", repositories, "glpat-not-a-token")
    assert [(method, path) for method, path, _, _ in others] == [
        ("DELETE", f"{repositories}/{number}/tags") for number in (7, 8, 9)
    ]
    for _, _, token, asked in others:
        assert token == "glpat-not-a-token"
        assert asked == {"name_regex_delete": ["[0-9a-f]{40}"], "keep_n": ["20"], "older_than": ["14d"]}
        assert not re.fullmatch(asked["name_regex_delete"][0], "v1.2.3")
    assert "glpat-not-a-token" not in said
