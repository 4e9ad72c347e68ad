"""Secrets stay out of everything that is shown or stored."""

from __future__ import annotations

import pytest

from dagster_project.ingest.cards.http import HttpOptions
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.auth import Credentials, Fixed
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.redact import Redactor
from tests.integration.hostile_server import Asked, HostileServer, Reply

SECRET = "s3cr&t value/ü"  # pragma: allowlist secret


@pytest.fixture
def redactor() -> Redactor:
    made = Redactor()
    made.add(SECRET, "GUTENBERG_TOKEN")
    return made


@pytest.mark.parametrize("form", [SECRET, "s3cr%26t%20value%2F%C3%BC", "s3cr%26t+value%2F%C3%BC"])
def test_every_form_of_a_secret_is_hidden(redactor: Redactor, form: str) -> None:
    assert redactor.text(f"before <{form}> and {form} after") == "before <***> and *** after"


def test_the_longer_of_two_secrets_goes_first() -> None:
    redactor = Redactor()
    redactor.add("abcd")
    redactor.add("abcdefgh")
    assert redactor.text("abcdefgh abcd") == "*** ***"


def test_short_secrets_dont_blank_out_messages() -> None:
    redactor = Redactor()
    redactor.add("a")
    redactor.add("")
    assert redactor.text("a banana") == "a banana"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@h.org/x", "https://h.org/x"),  # pragma: allowlist secret
        ("https://h.org/x?page=2&api_key=abc&z=", "https://h.org/x?page=2&api_key=***&z="),
        ("https://h.org/x?API-Key=abc", "https://h.org/x?API-Key=***"),
        ("https://h.org/x?access_token=abc&client_secret=d", "https://h.org/x?access_token=***&client_secret=***"),
        ("https://h.org/x?X-Amz-Signature=abc", "https://h.org/x?X-Amz-Signature=***"),
        ("https://h.org/x?mine=abc", "https://h.org/x?mine=***"),
        ("https://h.org/x?authors=abc&tokens=3", "https://h.org/x?authors=abc&tokens=3"),
        ("https://h.org/x?q=s3cr%26t%20value%2F%C3%BC", "https://h.org/x?q=***"),
        ("https://h.org/x?a=1&a=2&b", "https://h.org/x?a=1&a=2&b"),
    ],
)
def test_urls_lose_secrets_and_nothing_else(redactor: Redactor, url: str, shown: str) -> None:
    redactor.add_parameter("mine")
    assert redactor.url(url) == shown


def test_headers_lose_secrets(redactor: Redactor) -> None:
    shown = redactor.headers({"Authorization": "Bearer x", "Cookie": "a=b", "X-Api-Key": "k", "Accept": "*/*"})
    assert shown == {"Authorization": "***", "Cookie": "***", "X-Api-Key": "***", "Accept": "*/*"}


def test_a_concealed_state_is_revealed_in_another_process(redactor: Redactor) -> None:
    state = {"request": {"url": f"https://h.org/?t={SECRET}", "n": 1}, "list": [SECRET, None, 2.5]}
    hidden = redactor.conceal(state)
    assert "s3cr" not in str(hidden)
    other = Redactor()
    other.add(SECRET, "GUTENBERG_TOKEN")
    assert other.reveal(hidden) == state
    assert Redactor().conceal(state) is state


def test_no_secret_in_any_failure() -> None:
    """The server throws our own credentials back at us, in bodies, redirects and broken answers."""

    def answer(asked: Asked) -> Reply:
        echoed = f"you sent {asked.target} and {asked.headers.get('authorization')}".encode()
        status = int(asked.path.strip("/"))
        return Reply(status, echoed, {"Location": f"http://elsewhere.invalid{asked.target}"})

    with (
        HostileServer(answer) as server,
        HttpClient(HttpOptions.model_validate({"http_retry": {"attempts": 1}}), server.url, contact="me") as http,
    ):
        http.auth = Fixed(Credentials({"Authorization": "Bearer tok-en-12"}, {"key": "k-e-y-34"}))
        for value in ("tok-en-12", "k-e-y-34"):
            http.redactor.add(value)
        messages = [str(http.refusal(http.get(f"{server.url}/403")))]
        for path in ("302", "500"):
            with pytest.raises(SourceError) as caught:
                http.get(f"{server.url}/{path}")
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__
            messages.append(str(caught.value))
    assert "elsewhere.invalid" in messages[1]
    for message in messages:
        assert "tok-en" not in message
        assert "k-e-y" not in message
