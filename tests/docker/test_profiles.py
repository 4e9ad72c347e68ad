"""What profiles add to the platform: the warehouse in the browser for the operator, and a registry with a login."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from tests.docker.stack import Stack, docker, free_port, wait_for

pytestmark = pytest.mark.timeout(600)
HOME = "/database/"
INSIDE = f"{HOME}?pgsql=&username=bindery_reader&db=bindery"


class Browser:
    """Follows redirects and keeps cookies, with a login for the proxy."""

    def __init__(self, stack: Stack, login: str) -> None:
        self.address = f"http://127.0.0.1:{stack.port}"
        known = base64.b64encode(f"{login}:{stack.logins[login]}".encode()).decode()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.opener.addheaders = [("Authorization", f"Basic {known}")]

    def open(self, path: str, **fields: str) -> tuple[int, str]:
        """Give the status and the page."""
        data = urllib.parse.urlencode(fields).encode() if fields else None
        try:
            with self.opener.open(self.address + path, data, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ask(self, order: str) -> str:
        """Give the page after an SQL command."""
        _, form = self.open(f"{INSIDE}&ns=marts&sql=")
        token = re.search(r"name='token' value='([^']+)'", form)
        assert token, form[:500]
        return self.open(f"{INSIDE}&ns=marts&sql=", query=order, token=token[1])[1]


@pytest.fixture(scope="module")
def gui(stack: Stack) -> Iterator[Stack]:
    stack.compose("--profile", "tools", "up", "-d", "--build", "--no-deps", "gui")
    wait_for("the GUI", 60, lambda: stack.services()["gui"]["Health"] == "healthy")
    there = "select 1 where to_regclass('marts.dim_books') is not null and to_regclass('marts.fct_ratings') is not null"
    wait_for("the first run's tables", 400, lambda: stack.rows(there), 1)
    yield stack
    stack.compose("--profile", "tools", "rm", "-sf", "gui")


def test_without_the_profile_a_sentence_says_how_to_start_it(stack: Stack) -> None:
    status, page = Browser(stack, "operator").open(HOME)
    assert (status, page) == (502, "The database GUI isn't running: docker compose --profile tools up -d")


def test_the_operator_sees_tables_without_a_second_login(gui: Stack) -> None:
    browser = Browser(gui, "operator")
    status, page = browser.open(HOME)
    assert status == 200
    assert "<title>Schema: public - Bindery, read-only" in page
    status, page = browser.open(f"{INSIDE}&ns=marts&select=dim_books")
    (title,) = gui.rows("select title from marts.dim_books where title ~ '^[A-Za-z ]+$' limit 1")[0]
    assert status == 200
    assert "title" in page
    rows = browser.open(f"{INSIDE}&ns=marts&select=dim_books&where[0][col]=title&where[0][op]==&where[0][val]="
                        + urllib.parse.quote(title))[1]  # fmt: skip
    assert title in rows


def test_it_can_read_and_nothing_else(gui: Stack) -> None:
    browser = Browser(gui, "operator")
    browser.open(HOME)
    for order in ("delete from marts.fct_ratings", "create table public.mine (x int)", "set role bindery_owner"):
        assert "permission denied" in browser.ask(order), order


def test_nobody_chooses_another_login_or_server(gui: Stack) -> None:
    browser = Browser(gui, "operator")
    asked = {"auth[driver]": "pgsql", "auth[server]": "elsewhere", "auth[username]": "postgres", "auth[db]": "bindery"}
    browser.open(HOME, **asked, **{"auth[password]": "x"})
    assert "bindery_reader@postgres" in browser.ask("select current_user || '@postgres' as who")
    assert browser.open(f"{HOME}?pgsql=elsewhere&username=postgres&db=bindery")[0] == 403


def test_it_is_for_the_operator_alone(gui: Stack) -> None:
    assert gui.http(HOME, None).status == 401
    assert gui.http(HOME, "viewer").status == 403
    assert gui.http("/database", "viewer").status == 403


def test_the_gui_has_one_password_and_no_rights(gui: Stack) -> None:
    name = gui.container("gui")
    assert docker("exec", name, "ls", "/run/bindery", "/run/bindery/gui").split()[-1] == "reader_password"
    assert docker("exec", name, "id", "-u") == "10001"
    password = gui.secret("secrets", "postgres_reader_password")
    assert password not in docker("inspect", name)
    assert password not in docker("logs", name)


@pytest.fixture(scope="module")
def registry(stack: Stack) -> Iterator[tuple[Stack, int]]:
    port = free_port()
    stack.variables["BINDERY_REGISTRY_PORT"] = str(port)
    stack.compose("--profile", "registry", "up", "-d", "--no-deps", "registry")
    yield stack, port
    stack.compose("--profile", "registry", "rm", "-sf", "registry")


def ask(port: int, path: str, login: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def test_the_registry_takes_images_from_the_operator(registry: tuple[Stack, int], tmp_path: Path) -> None:
    stack, port = registry
    wait_for("the registry", 30, lambda: ask(port, "/v2/")[0] == 401)
    password = stack.logins["operator"]
    assert ask(port, "/v2/", "operator:not-this-one")[0] == 401
    assert ask(port, "/v2/", f"viewer:{stack.logins['viewer']}")[0] == 401
    mine, image = ["--config", str(tmp_path)], f"localhost:{port}/team/postgres:1"
    docker(*mine, "login", "--username", "operator", "--password-stdin", f"localhost:{port}", text=password)
    docker("tag", "registry:2", image)
    try:
        docker(*mine, "push", "--quiet", image)
    finally:
        docker("image", "rm", image)
    assert json.loads(ask(port, "/v2/_catalog", f"operator:{password}")[1]) == {"repositories": ["team/postgres"]}
    # It is kept in a volume, so another container of the service has it too.
    stack.compose("--profile", "registry", "up", "-d", "--no-deps", "--force-recreate", "registry")
    wait_for("the registry", 30, lambda: ask(port, "/v2/")[0] == 401)
    try:
        docker(*mine, "pull", "--quiet", image)
    finally:
        docker("image", "rm", image, check=False)


def test_the_registry_reaches_nothing_of_the_platform(registry: tuple[Stack, int]) -> None:
    stack, _ = registry
    known = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", stack.container("registry")))
    assert set(known) == {f"{stack.project}-registry"}
    assert docker("inspect", "-f", "{{.Config.User}}", stack.container("registry")) == "10001:10001"
