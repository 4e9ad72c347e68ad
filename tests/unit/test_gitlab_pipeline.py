"""The pipeline's structure: which jobs a push starts, that they find what they need, and that nothing in it drifts."""

from __future__ import annotations

import re
import subprocess
from graphlib import TopologicalSorter
from typing import Any

import pytest
import yaml

from tests.run import ROOT, tracked_files
from tests.unit.gitlab_pipeline import holds, jobs, load, pipeline, runs

WHOLE = pipeline()
JOBS = jobs(WHOLE)
SOCKET = jobs(pipeline("socket"))
DOCS = (ROOT / "docs" / "ci.md").read_text()
SCRIPTS = sorted(name for name in tracked_files(".sh") if name.startswith("deploy/ci/"))

MERGE_REQUEST = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_DEFAULT_BRANCH": "main",
    "CI_OPEN_MERGE_REQUESTS": "a!1",
}
BRANCH = {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "work", "CI_DEFAULT_BRANCH": "main"}
MAIN = {**BRANCH, "CI_COMMIT_BRANCH": "main", "STAGING_URL": "https://staging.example"}
TAG = {"CI_PIPELINE_SOURCE": "push", "CI_COMMIT_TAG": "v1.2.3", "CI_DEFAULT_BRANCH": "main"}
NIGHT = {**MAIN, "CI_PIPELINE_SOURCE": "schedule"}
CODE = {
    *("lint", "lint:files", "unit", "tables", "build", "test:image", "integration", "sbom", "scan:images"),
    "scan:dependencies",
}


def started(variables: dict[str, str]) -> dict[str, str]:
    """Give the jobs of a pipeline with these variables, and when each runs; none where there is no pipeline."""
    if runs(WHOLE["workflow"]["rules"], variables) == "never":
        return {}
    found = {name: runs(job["rules"], variables) for name, job in JOBS.items()}
    return {name: when for name, when in found.items() if when != "never"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (MERGE_REQUEST, CODE),
        (BRANCH, CODE),
        (MAIN, {*CODE, "sign", "deploy:staging", "rollback:staging"}),
        ({**MAIN, "STAGING_URL": ""}, {*CODE, "sign"}),
        ({**MAIN, "CI_OPEN_MERGE_REQUESTS": "a!1"}, {*CODE, "sign", "deploy:staging", "rollback:staging"}),
        (TAG, {"release:images", "release", "deploy:production", "rollback:production"}),
        (NIGHT, {"scan:dependencies", "prune"}),
    ],
    ids=["merge request", "branch", "main", "main without a server", "main with merge requests", "tag", "night"],
)
def test_a_push_starts_these_jobs(variables: dict[str, str], expected: set[str]) -> None:
    assert set(started(variables)) == expected


@pytest.mark.parametrize(
    "variables",
    [
        {**BRANCH, "CI_OPEN_MERGE_REQUESTS": "team/bindery!7"},
        {**TAG, "CI_COMMIT_TAG": "nightly"},
        {**TAG, "CI_COMMIT_TAG": "v1.2.3-broken"},
    ],
    ids=["a branch whose merge request has a pipeline", "some tag", "a tag like a release's"],
)
def test_a_push_starts_no_pipeline(variables: dict[str, str]) -> None:
    assert started(variables) == {}


def test_servers_are_changed_by_hand_or_by_main_alone() -> None:
    assert started(MAIN)["deploy:staging"] == "on_success"
    assert started(MAIN)["rollback:staging"] == started(TAG)["rollback:production"] == "manual"
    assert started(TAG)["deploy:production"] == "manual"


@pytest.mark.parametrize("variables", [MERGE_REQUEST, BRANCH, MAIN, TAG, NIGHT])
def test_jobs_need_jobs_of_their_pipeline_and_never_each_other(variables: dict[str, str]) -> None:
    there = started(variables)
    order = list(TopologicalSorter({name: JOBS[name]["needs"] for name in there}).static_order())
    assert set(order) == set(there)
    for name in there:
        for needed in JOBS[name]["needs"]:
            stages = WHOLE["stages"]
            assert stages.index(JOBS[needed]["stage"]) <= stages.index(JOBS[name]["stage"]), (name, needed)


@pytest.mark.parametrize("name", JOBS)
def test_every_job_says_when_how_long_and_in_which_stage(name: str) -> None:
    job = JOBS[name]
    assert job["rules"], "a job without rules runs in every pipeline"
    assert job["stage"] in WHOLE["stages"]
    assert isinstance(job["needs"], list), "without it a job waits for whole stages"
    assert job.get("timeout", WHOLE["default"]["timeout"])
    assert job["script"]
    assert f"`{name}`" in DOCS


def test_a_laptop_and_the_pipeline_check_and_test_alike() -> None:
    assert JOBS["lint"]["script"] == ["make check"]
    assert JOBS["unit"]["script"] == ["make install-dev", ".venv/bin/python -m tests.run --tests"]
    assert re.fullmatch(r"python:3\.1[1-4](-\w+)*", WHOLE["variables"]["PYTHON_IMAGE"])


def images() -> dict[str, str]:
    """Every image of the pipeline, by the job that names it, variables filled in."""
    found: dict[str, str] = {}
    for kind, of in (("dind", JOBS), ("socket", SOCKET)):
        for name, job in of.items():
            named: list[Any] = [job.get("image", WHOLE["default"]["image"]), *job.get("services", [])]
            for each in named:
                text = each if isinstance(each, str) else each["name"]
                found[f"{kind} {name} {text}"] = re.sub(r"^\$(\w+)$", lambda m: WHOLE["variables"][m[1]], text)
    return found


def test_images_are_pinned() -> None:
    found = images()
    assert len(set(found.values())) >= 7
    for where, image in found.items():
        assert re.search(r":(v?\d|pg\d|\$CI_COMMIT_SHA$)", image), where
        assert ":latest" not in image, where
    assert "latest" not in (ROOT / ".gitlab-ci.yml").read_text()


def test_what_runs_in_production_is_what_compose_and_the_dockerfiles_name() -> None:
    assert f"ARG PYTHON_IMAGE={WHOLE['variables']['PYTHON_IMAGE']}\n" in (ROOT / "Dockerfile.dagster").read_text()
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f"BINDERY_POSTGRES_IMAGE:-{WHOLE['variables']['POSTGRES_IMAGE']}" in compose
    assert WHOLE["variables"]["DOCKER_IMAGE"].removesuffix("-cli") == WHOLE["variables"]["DIND_IMAGE"].removesuffix(
        "-dind"
    )


def test_the_engine_is_reached_over_tls_or_through_a_socket() -> None:
    dind, socket = load("deploy/ci/engine-dind.yml")[".engine"], load("deploy/ci/engine-socket.yml")[".engine"]
    assert dind["variables"]["DOCKER_HOST"] == "tcp://docker:2376"
    assert dind["variables"]["DOCKER_TLS_VERIFY"] == "1"
    assert dind["variables"]["DOCKER_TLS_CERTDIR"]
    assert socket["variables"]["DOCKER_HOST"].startswith("unix://")
    assert "services" not in socket
    users = {name for name, job in JOBS.items() if "deploy/ci/engine.sh" in str(job.get("before_script"))}
    assert users == {"build", "integration", "sbom", "release:images"}
    assert all(any(each["alias"] == "docker" for each in JOBS[name]["services"]) for name in users)


def test_secrets_are_named_and_never_written() -> None:
    for path in (".gitlab-ci.yml", *(name for name in tracked_files(".yml") if name.startswith("deploy/ci/"))):
        for name, value in variables_of(load(path)):
            if re.search(r"PASSWORD|TOKEN|SECRET|PRIVATE|_KEY$", name):
                assert re.fullmatch(r"\$CI_\w+", str(value)), f"{path}: {name}"
    for path in SCRIPTS:
        text = (ROOT / path).read_text()
        assert "set -x" not in text, path
        assert not re.search(r"--(password|token)[ =][\"']?\$", text), f"{path}: arguments are seen by everybody"


def variables_of(value: Any) -> list[tuple[str, Any]]:
    """Every variable that a file sets, wherever."""
    if isinstance(value, dict):
        own = list(value["variables"].items()) if isinstance(value.get("variables"), dict) else []
        return own + [each for inner in value.values() for each in variables_of(inner)]
    return [each for inner in value for each in variables_of(inner)] if isinstance(value, list) else []


def test_variables_that_a_project_must_set_are_documented() -> None:
    text = (ROOT / ".gitlab-ci.yml").read_text() + "".join((ROOT / name).read_text() for name in SCRIPTS)
    known = {name for name, _ in variables_of(WHOLE)}
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", text)) - known
    local = set(re.findall(r"^\s*(?:export )?([A-Z_]+)=", text, re.MULTILINE))
    local |= {name for job in JOBS.values() for each in job.get("parallel", {}).get("matrix", []) for name in each}
    given = {name for name in used if name.startswith("CI_") or name in {"PWD", "HOME"}} | {
        "DAGSTER_DIGEST",
        "DBT_DIGEST",
    }
    for name in sorted(used - local - given):
        assert f"`{name}`" in DOCS, name


def test_scripts_are_there_and_parse() -> None:
    called = set(re.findall(r"deploy/ci/\w+\.sh", (ROOT / ".gitlab-ci.yml").read_text() + str(WHOLE[".engine"])))
    assert called | {"deploy/ci/server.sh"} == set(SCRIPTS)
    for name in SCRIPTS:
        done = subprocess.run(["sh", "-n", ROOT / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "\nset -eu\n" in (ROOT / name).read_text(), name


def test_reports_are_kept_where_gitlab_looks_for_them() -> None:
    reports = {
        name: set(job["artifacts"]["reports"]) for name, job in JOBS.items() if "reports" in job.get("artifacts", {})
    }
    assert reports == {
        "unit": {"junit"},
        "test:image": {"junit"},
        "build": {"dotenv"},
        "sbom": {"cyclonedx"},
        "scan:images": {"container_scanning"},
        "scan:dependencies": {"dependency_scanning"},
    }
    assert all(job["artifacts"].get("expire_in") for job in JOBS.values() if "artifacts" in job)


def test_what_changes_something_outside_is_neither_cut_short_nor_done_twice_at_once() -> None:
    for name in ("sign", "release:images", "release", "deploy:staging", "deploy:production", "rollback:production"):
        assert JOBS[name]["interruptible"] is False, name
    for name in ("deploy:staging", "rollback:staging", "deploy:production", "rollback:production"):
        assert JOBS[name]["resource_group"] == JOBS[name]["environment"]["name"] == name.partition(":")[2]
    assert set(JOBS["sign"]["needs"]) >= CODE - {"lint:files", "tables"}, "what isn't tested isn't signed"


@pytest.mark.parametrize(
    ("condition", "variables", "expected"),
    [
        ('$A == "x"', {"A": "x"}, True),
        ('$A != "x" && $B', {"B": "1"}, True),
        ("$A == null", {}, True),
        ('$A == "" || $A == null', {"A": "x"}, False),
        (r"$A =~ /^v\d+$/", {"A": "v1"}, True),
        (r"$A =~ /^v\d+$/", {}, False),
        ("$A == $B", {"A": "m", "B": "m"}, True),
    ],
)
def test_the_reader_judges_as_gitlab_does(condition: str, variables: dict[str, str], expected: bool) -> None:
    assert holds(condition, variables) is expected


def test_the_reader_refuses_what_it_does_not_know() -> None:
    with pytest.raises(AssertionError, match="not understood"):
        holds("$A in $B", {})
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load("a: !reference [x]")
