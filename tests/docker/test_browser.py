"""The UI as people see it: behind the proxy, in a real Chromium, by both logins. Pictures go to BINDERY_PICTURES."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from tests.docker.stack import Stack, wait_for

pytestmark = pytest.mark.timeout(300)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It has no business outside, and as root there is no sandbox to be had.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
PICTURES = os.environ.get("BINDERY_PICTURES", "")
SLOW = 60_000
"""Milliseconds: a page that loads its code on a busy machine."""

Opened = Callable[[str], Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The machine's own browser."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"no browser: install one of {', '.join(NAMES)} (Debian, Ubuntu: apt-get install chromium)"
    words = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=words)
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Browser, stack: Stack, login: str) -> Iterator[Page]:
    """A page that has logged in; what its scripts complain of fails the test."""
    context = chromium.new_context(
        base_url=f"http://localhost:{stack.port}",
        http_credentials={"username": login, "password": stack.logins[login]},
        viewport={"width": 1600, "height": 1000},
    )
    context.set_default_timeout(SLOW)
    expect.set_options(timeout=SLOW)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    try:
        yield page
    except BaseException:
        picture(page, f"failed-{login}")
        raise
    finally:
        context.close()
    assert not wrong


def picture(page: Page, name: str) -> None:
    """Keep what it looks like, where somebody asked for it."""
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def close_greetings(page: Page) -> None:
    """Take away what is laid over the page at a first visit."""
    for words in ("Skip", "Dismiss"):
        for button in page.get_by_role("button", name=words, exact=True).all():
            button.click()


def first_run(stack: Stack) -> str:
    """The first run, once it is green."""
    query = """{ runsOrError(filter: {statuses: [SUCCESS]}) { ... on Runs { results { runId jobName } } } }"""

    def green() -> str:
        found = stack.graphql(query)["runsOrError"]["results"]
        return next((run["runId"] for run in found if run["jobName"] == "pipeline_with_scraping"), "")

    return str(wait_for("a green run", 240, green, 1))


def test_without_a_login_there_is_nothing_to_see(chromium: Browser, stack: Stack) -> None:
    page = chromium.new_page()
    with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        page.goto(f"http://localhost:{stack.port}/")
    page.close()


def test_an_operator_sees_the_graph_and_may_materialise(chromium: Browser, stack: Stack) -> None:
    first_run(stack)
    with opened(chromium, stack, "operator") as page:
        page.goto("/asset-groups")
        expect(page.get_by_text("Global asset lineage").first).to_be_visible()
        close_greetings(page)
        for group in ("bookshop", "gutenberg", "uploads", "snapshots", "intermediate", "marts", "features"):
            expect(page.get_by_text(group, exact=True).first).to_be_visible()
        picture(page, "graph")
        page.goto("/assets/marts/dim_books")
        expect(page.get_by_text("One row per").first).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("Materialize")).first).to_be_enabled()
        picture(page, "asset")


def test_a_runs_steps_and_their_output_are_there(chromium: Browser, stack: Stack) -> None:
    run = first_run(stack)
    with opened(chromium, stack, "operator") as page:
        page.goto(f"/runs/{run}")
        close_greetings(page)
        expect(page.get_by_text("Success", exact=True).first).to_be_visible()
        expect(page.get_by_text(re.compile(r"^Succeeded \(\d\d\)$"))).to_be_visible()
        picture(page, "run")
        page.get_by_text("landing__bookshop", exact=True).first.click()
        page.get_by_text("stderr", exact=True).click()
        # What the step wrote, line by line; its container is gone.
        expect(page.get_by_text(re.compile("landing__bookshop - .*fetch")).first).to_be_visible()
        picture(page, "output-of-a-step")


def test_a_viewer_sees_and_changes_nothing(chromium: Browser, stack: Stack) -> None:
    first_run(stack)
    with opened(chromium, stack, "viewer") as page:
        page.goto("/assets/marts/dim_books")
        expect(page.get_by_text("One row per").first).to_be_visible()
        close_greetings(page)
        picture(page, "viewer")
        for button in page.get_by_role("button", name=re.compile("Materialize")).all():
            expect(button).to_be_disabled()
