"""The doctor beside the running platform, limits from its real history, and an alert all the way out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_project.execution.compute import MIB
from tests.docker.stack import FINISHED, TAG, Stack, docker, wait_for

pytestmark = pytest.mark.timeout(600)
BINDERY = Path(sys.executable).parent / "bindery"
SINK = """
import http.server, json
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print(json.dumps([told["title"], told["message"]]), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("", 8000), Sink).serve_forever()
"""


def test_beside_the_platform_nothing_is_wrong(stack: Stack) -> None:
    done = subprocess.run(
        [BINDERY, "doctor", "docker", "--json"],
        env={**stack.environment, "BINDERY_ENV_FILE": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = {each["check"]: each for each in map(json.loads, done.stdout.splitlines())}
    for check in ("docker", "compose", "socket", "drop folder", "published port"):
        assert found[check]["status"] == "ok", found[check]
    assert f"the project {stack.project} publishes it" in found["published port"]["said"] or (
        "the platform's login answers there" in found["published port"]["said"]
    )


def test_limits_come_from_what_steps_used(stack: Stack) -> None:
    wait_for("quiet", 240, lambda: stack.runs() and all(run["status"] in FINISHED for run in stack.runs()), 1)
    said = stack.compose("exec", "-T", "webserver", "bindery", "doctor", "compute", "--json")
    found = {each["step"]: each for each in map(json.loads, said.splitlines())}
    assert {"landing__gutenberg", "raw__gutenberg", "dbt_gutenberg", "features__rating_summary"} <= found.keys()
    for each in found.values():
        assert each["runs"] >= 1
        assert 50 * MIB < each["peak_max"] < each["now"]["memory"], each
        assert each["cpu_seconds_p95"] > 0
    shown = stack.compose("exec", "-T", "webserver", "bindery", "doctor", "compute")
    assert "max peak" in shown


def test_commands_that_look_work_inside_a_container(stack: Stack) -> None:
    for words in (("loads",), ("alert", "list"), ("quarantine",), ("landing", "show"), ("retention", "--dry-run")):
        assert "Traceback" not in stack.compose("exec", "-T", "webserver", "bindery", *words)
    inside = stack.compose("exec", "-T", "webserver", "bindery", "doctor", "--json")
    assert [each for each in map(json.loads, inside.splitlines()) if each["status"] == "fail"] == []


@pytest.fixture
def sink(stack: Stack) -> Iterator[str]:
    """A web server that prints what is posted to it, in the platform's network."""
    name = f"{stack.project}-sink"
    docker(
        *("run", "-d", "--rm", "--name", name, "--network", f"{stack.project}-platform"),
        *("--label", f"bindery.project={stack.project}", f"bindery/dagster:{TAG}", "python", "-c", SINK),
    )
    yield name
    docker("rm", "-f", name, check=False)


def test_an_alert_leaves_the_platform(stack: Stack, sink: str) -> None:
    url = f"json://{sink}:8000/hook"
    set_url = ("run", "--rm", "--no-deps", "-T", "secrets", "bindery", "secrets", "set", "ALERT_URLS")
    subprocess.run(
        ["docker", "compose", *set_url], env=stack.environment, input=url, text=True, check=True, timeout=120
    )
    row = "insert into raw._quarantine (load_id, source, stream, code, message) "
    row += "select 0, 'nobody', 'rows', 'null_key', 'private' from generate_series(1, 101)"
    stack.psql("postgres", stack.superuser_password, row)
    try:
        wait_for("the alert", 120, lambda: "rows of nobody.rows are refused" in docker("logs", sink), 1)
        told = docker("logs", sink)
        assert f"Bindery ({stack.project})" in told
        assert "private" not in told
        assert url not in stack.compose("logs", "--no-color", "code", "daemon")
    finally:
        stack.psql("postgres", stack.superuser_password, "delete from raw._quarantine where source = 'nobody'")
        docker(
            *("run", "--rm", "--network", "none", "--user", "0", "-v", f"{stack.project}-secrets:/s"),
            *(f"bindery/dagster:{TAG}", "rm", "/s/alert_urls"),
        )
