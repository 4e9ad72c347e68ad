"""Secrets stay out of everything that is shown or stored."""

from __future__ import annotations

import pytest

from dagster_project.ingest.cards.http import HttpOptions
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.auth import Credentials, Fixed
from dagster_project.ingest.fetch.document import brief, read_document
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.redact import Redactor
from tests.integration.hostile_server import Asked, HostileServer, Reply

SECRET = "s3cr&t value/ü"  # pragma: allowlist secret


@pytest.fixture
def redactor() -> Redactor:
    made = Redactor()
    made.add(SECRET, "GUTENBERG_TOKEN")
    return made


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(SECRET, id="itself"),
        pytest.param("s3cr%26t%20value%2F%C3%BC", id="percent"),
        pytest.param("s3cr%26t%20value%2f%c3%bc", id="percent in lower case"),
        pytest.param("s3cr%26t+value%2F%C3%BC", id="form"),
        pytest.param("s3cr&t value\\/\\u00fc", id="JSON by PHP"),
        pytest.param("s3cr&t value/\\u00fc", id="JSON by Python"),
        pytest.param("s3cr&amp;t value/ü", id="HTML"),
        pytest.param("s3cr&t value/\ufffd", id="Latin-1 read as UTF-8"),
    ],
)
def test_every_form_of_a_secret_is_hidden(redactor: Redactor, form: str) -> None:
    assert redactor.text(f"before <{form}> and {form} after") == "before <***> and *** after"


def test_what_a_library_quotes_is_hidden() -> None:
    redactor = Redactor()
    value = redactor.add('two\nlines "of" it')
    assert redactor.text(f"wrong: {value!r}") == "wrong: '***'"
    assert redactor.text('{"a": "two\\nlines \\"of\\" it"}') == '{"a": "***"}'


@pytest.mark.parametrize("before", range(150, 205))
def test_a_secret_is_hidden_before_the_text_is_cut(redactor: Redactor, before: int) -> None:
    start = redactor.start(b"x" * before + SECRET.encode() + b"y" * 5000)
    assert start.startswith("x" * 150)
    assert len(start) == 200
    assert "s3cr" not in start


def test_many_secrets_dont_push_half_a_one_into_sight(redactor: Redactor) -> None:
    for padding in range(30):
        assert "s3c" not in redactor.start(b"p" * padding + SECRET.encode() * 400)


@pytest.mark.parametrize("there", range(4, len(SECRET)))
def test_an_answer_that_ends_within_a_secret_doesnt_show_its_beginning(redactor: Redactor, there: int) -> None:
    assert redactor.start(f"your token {SECRET[:there]}".encode()) == "your token ***"


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
    quoted = "s3cr%26t+value%2F%C3%BC"
    state = {"request": {"url": f"https://h.org/?t={quoted}", "n": 1}, "list": [SECRET, None, 2.5]}
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


@pytest.mark.parametrize("before", range(180, 202, 3))
def test_a_refusal_and_what_isnt_json_show_no_beginning_of_a_secret(redactor: Redactor, before: int) -> None:
    body = b"x" * before + SECRET.encode() + b"y" * 500
    with (
        HostileServer(lambda _: Reply(400, body)) as server,
        HttpClient(HttpOptions(), server.url, contact="me", redactor=redactor) as http,
    ):
        refusal = str(http.refusal(http.get(server.url)))
    with pytest.raises(SourceError) as caught:
        read_document(body, "https://h.org/", redactor=redactor)
    for message in (refusal, str(caught.value)):
        assert "xxx" in message
        assert "s3c" not in message
        assert redactor.text(message) == message


def test_values_that_arent_what_they_should_be_are_shown_whole_or_not_at_all() -> None:
    assert brief({"next": SECRET}) == repr({"next": SECRET})
    assert brief("x" * 90 + SECRET) == "text of 106 characters"
    assert brief({"next": "x" * 90 + SECRET}) == "object of 116 characters"
