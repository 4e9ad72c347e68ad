"""The whole platform under compose, for tests: started once from nothing, asked as a person and an attacker would."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.run import ROOT

TAG = "test"
ONCE = {"secrets", "migrate", "dbt"}
"""Services that do one thing and end; the others are started again when they end."""
PS = '{{.Label "com.docker.compose.service"}}\t{{.ID}}\t{{.State}}\t{{.Status}}'
ONE_OFF = "label=com.docker.compose.oneoff=False"
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}
RUNS = "query { runsOrError(limit: 100) { ... on Runs { results { runId status jobName tags { key value } } } } }"
LOCATIONS = """query { workspaceOrError { ... on Workspace { locationEntries {
  name locationOrLoadError { __typename } } } } }"""
EVENTS = """query($run: ID!) { logsForRun(runId: $run, limit: 1000) { ... on EventConnection { events {
  __typename ... on MessageEvent { message stepKey timestamp eventType }
  ... on ExecutionStepFailureEvent { error { message } }
  ... on ExecutionStepUpForRetryEvent { error { message } }
  ... on RunFailureEvent { error { message } }
} } } }"""
LAUNCH = """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
TERMINATE = """mutation($run: String!) { terminateRun(runId: $run) { __typename ... on PythonError { message }
  ... on TerminateRunFailure { message } } }"""


def docker(*words: str, check: bool = True, text: str | None = None, **variables: str) -> str:
    """Run docker and give what it printed, both streams. Variables are its own: secrets are in no command line."""
    done = subprocess.run(
        ["docker", *words],
        input=text,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stdout[-4000:]}"
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, seconds: float, found: Callable[[], Any], pause: float = 0.3) -> Any:
    """Ask until the answer is true; gives the answer."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(pause)
    return answer


@dataclass
class Stack:
    """One compose project."""

    project: str
    port: int
    folder: Path
    figures: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=lambda: [ROOT / "docker-compose.yml"])
    variables: dict[str, str] = field(default_factory=dict)
    answered_at: float = 0.0
    tag: str = TAG

    @property
    def drop(self) -> Path:
        return self.folder / "drop"

    @property
    def environment(self) -> dict[str, str]:
        mine = ("BINDERY_", "COMPOSE_", "PG", "POSTGRES_")
        plain = {"SOURCES", "REVISION", "SAMPLE_SCALE"}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(mine) and key not in plain}
        return kept | {
            "COMPOSE_PROJECT_NAME": self.project,
            "BINDERY_TAG": self.tag,
            "BINDERY_PORT": str(self.port),
            "BINDERY_DROP_FOLDER": str(self.drop),
            **self.variables,
        }

    def compose(self, *words: str, check: bool = True, seconds: float = 600) -> str:
        files = [word for path in self.files for word in ("-f", str(path))]
        done = subprocess.run(
            ["docker", "compose", *files, *words],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert not check or done.returncode == 0, f"docker compose {' '.join(words)}: {done.stdout[-4000:]}"
        return done.stdout

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def remove(self) -> None:
        """Take everything away, whatever state it is in."""
        self.compose("stop", "--timeout", "5", "daemon", "supervisor", check=False)
        if left := self.containers(ended=True):
            docker("rm", "-f", *left, check=False)
        self.compose("--profile", "*", "down", "-v", "--remove-orphans", "--timeout", "5", check=False)

    def up(self) -> float:
        """Start it; gives the seconds until every service is healthy."""
        began = time.monotonic()
        self.compose("up", "-d", "--no-build")
        wait_for("every service healthy", 120, self.healthy, 0.5)
        return time.monotonic() - began

    def services(self) -> dict[str, dict[str, Any]]:
        """Containers by service, with ID, State, Health and ExitCode; the engine tells them cheaper than compose."""
        words = ("--no-trunc", "--filter", f"label=com.docker.compose.project={self.project}", "--filter", ONE_OFF)
        shown = docker("ps", "-a", *words, "--format", PS)
        found = {}
        for service, identity, state, status in (line.split("\t") for line in shown.splitlines()):
            code = re.match(r"Exited \((\d+)\)", status)
            health = re.search(r"\((?:health: )?(healthy|unhealthy|starting)\)", status)
            found[service] = {
                "ID": identity,
                "State": state,
                "Health": health[1] if health else "",
                "ExitCode": int(code[1]) if code else 0,
            }
        return found

    def healthy(self) -> bool:
        """Whether all is up and well, and what runs once has ended well."""
        found = self.services()
        ended = {name: each for name, each in found.items() if each["State"] == "exited"}
        assert not [each for name, each in ended.items() if name in ONCE and each["ExitCode"]], ended
        running = [each for each in found.values() if each["State"] == "running"]
        up = set(ended) <= ONCE and len(ended) + len(running) == len(found)
        return up and all(each["Health"] in {"", "healthy"} for each in running)

    # Containers of runs and steps

    def containers(self, *labels: str, ended: bool = False) -> list[str]:
        wanted = [f"bindery.project={self.project}", "bindery.kind", *labels]
        filters = [word for label in wanted for word in ("--filter", f"label={label}")]
        return docker("ps", "-q", "--no-trunc", *(["-a"] if ended else []), *filters).split()

    def step_container(self, run: str, step: str, seconds: float = 30) -> str:
        found = wait_for(
            f"container of {step}", seconds, lambda: self.containers(f"bindery.run={run}", f"bindery.step={step}"), 0.1
        )
        return str(found[0])

    def crash(self, service: str) -> None:
        """Kill a service's processes from within: after `docker kill` the engine would leave it down."""
        docker("exec", self.container(service), "bash", "-c", "kill -KILL -1", check=False)

    # Secrets, as the operator has them

    def secret(self, volume: str, name: str) -> str:
        return self.secrets(volume)[name]

    def secrets(self, volume: str) -> dict[str, str]:
        program = (
            "import json, pathlib as p; print(json.dumps({f.name: f.read_text() for f in p.Path('/s').iterdir()}))"
        )
        said = docker(
            *("run", "--rm", "--network", "none", "-v", f"{self.project}-{volume}:/s:ro"),
            *(f"bindery/dagster:{self.tag}", "python", "-c", program),
        )
        found: dict[str, str] = json.loads(said)
        return found

    # HTTP, through the proxy

    def http(self, path: str, login: str | None = "operator", body: Any = None, password: str | None = None) -> Answer:
        headers = {"Content-Type": "application/json"}
        if login is not None:
            known = password if password is not None else self.logins[login]
            headers["Authorization"] = "Basic " + base64.b64encode(f"{login}:{known}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, payload, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()})
        finally:
            connection.close()

    @property
    def logins(self) -> dict[str, str]:
        if "operator" not in self._logins:
            found = self.secrets("secrets-admin")
            self._logins |= {name: found[f"{name}_password"] for name in ("operator", "viewer")}
        return self._logins

    _logins: dict[str, str] = field(default_factory=dict)

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.http("/").status == 200
        return False

    def graphql(self, query: str, login: str = "operator", **variables: Any) -> dict[str, Any]:
        answer = self._asked({"query": query, "variables": variables}, login, 1 if query.startswith("mutation") else 5)
        assert answer.status == 200, answer.body[:2000]
        told = json.loads(answer.body)
        assert "errors" not in told, told["errors"]
        data: dict[str, Any] = told["data"]
        return data

    def _asked(self, body: dict[str, Any], login: str, tries: int) -> Answer:
        # Caddy 2.6 may break an answer off where the machine is busy: Go's server closes a request's body once it
        # answers, though the proxy's transport still looks for its end. A change is never asked for twice.
        for _ in range(tries - 1):
            with contextlib.suppress(http.client.IncompleteRead):
                return self.http("/graphql", login, body)
        return self.http("/graphql", login, body)

    def loaded(self, location: str) -> bool:
        """Whether the webserver has a code location; it looks for servers that it lost by itself."""
        entries = self.graphql(LOCATIONS)["workspaceOrError"]["locationEntries"]
        return {"name": location, "locationOrLoadError": {"__typename": "RepositoryLocation"}} in entries

    # Runs

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.graphql(RUNS)["runsOrError"]["results"]
        return found

    def status(self, run: str) -> str:
        return next((str(each["status"]) for each in self.runs() if each["runId"] == run), "GONE")

    def events(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.graphql(EVENTS, run=run)["logsForRun"]["events"]
        return found

    def launch(self, job: str, location: str = "bindery", **ops: Any) -> str:
        selector = {"repositoryLocationName": location, "repositoryName": "__repository__", "jobName": job}
        config = {"ops": {op: {"config": values} for op, values in ops.items()}}
        mark = {"key": "test/launch", "value": uuid.uuid4().hex}
        parameters = {"selector": selector, "runConfigData": config, "mode": "default"}
        try:
            told = self.graphql(LAUNCH, p={**parameters, "executionMetadata": {"tags": [mark]}})["launchRun"]
        except http.client.IncompleteRead:
            # As in `_asked`; whether it was launched is for the run to say.
            found = wait_for("the run", 30, lambda: [each for each in self.runs() if mark in each["tags"]])
            return str(found[0]["runId"])
        assert told["__typename"] == "LaunchRunSuccess", told
        return str(told["run"]["runId"])

    def finished(self, run: str, seconds: float = 120) -> str:
        def ended() -> str | None:
            status = self.status(run)
            return status if status in FINISHED else None

        return str(wait_for(f"the end of run {run}", seconds, ended))

    # SQL, on the server itself

    def rows(self, query: str, database: str = "bindery") -> list[list[Any]]:
        """Ask as the superuser; rows as lists of JSON values."""
        values = "array_to_json(array(select value from json_each(row_to_json(t))))"
        wrapped = f"select coalesce(json_agg({values}), '[]') from ({query}) t"
        said = self.psql("postgres", self.superuser_password, wrapped, database)
        found: list[list[Any]] = json.loads(said)
        return found

    @property
    def superuser_password(self) -> str:
        return docker("exec", self.container("postgres"), "cat", "/run/bindery/admin/postgres_password")

    def psql(self, user: str, password: str, query: str, database: str = "bindery", check: bool = True) -> str:
        words = ["psql", "-h", "127.0.0.1", "-U", user, "-d", database, "-AtqX", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        inside = ("exec", "-i", "-e", "PGPASSWORD", self.container("postgres"), *words)
        return docker(*inside, text=query, check=check, PGPASSWORD=password)


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    body: bytes
    headers: dict[str, str]


def events_of(project: str, log: Path) -> subprocess.Popen[bytes]:
    """Write what the engine does with the project's containers to a file, one JSON object a line, until ended."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["docker", "events", "--filter", f"label=bindery.project={project}", "--format", "{{json .}}"],
            stdout=output,
            stderr=subprocess.DEVNULL,
        )


def engine_events(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text().splitlines():
        yield json.loads(line)
