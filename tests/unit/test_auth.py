"""Credentials: what each kind sends, when a token is bought, and that it is bought again once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from dagster_project.ingest.cards.rest import Auth as AuthCard
from dagster_project.ingest.cards.rest import RestApiSourceCard
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.auth import ClientCredentials, make_auth
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.session import FetchSession
from dagster_project.ingest.landing.memory import MemoryLog
from dagster_project.ingest.runtime import Runtime
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply

SECRETS = {
    "TOKEN": "token-1234",
    "USER": "me",
    "PASSWORD": "pass-5678",  # pragma: allowlist secret
    "ID": "client-id",
    "SECRET": "client-secret",  # pragma: allowlist secret
}


class Resolver:
    def resolve_setting(self, name: str) -> str:
        return {"token_url": Api.token_url}[name]

    def resolve_secret(self, name: str) -> str:
        return SECRETS[name]


class Api:
    """An API whose tokens end when it says so."""

    token_url = ""

    def __init__(self) -> None:
        self.sold = 0
        self.valid = "token-1"
        self.expires_in: Any = 3600
        self.lock = threading.Lock()

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/token":
            with self.lock:
                self.sold += 1
                self.valid = f"bought-{self.sold}"
                return json_reply({"access_token": self.valid, "expires_in": self.expires_in, "token_type": "bearer"})
        if asked.headers.get("authorization") != f"Bearer {self.valid}":
            return json_reply({"error": "who are you?"}, 401)
        return json_reply({"fine": True})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def server(api: Api) -> Iterator[HostileServer]:
    with HostileServer(api) as made:
        Api.token_url = f"{made.url}/token"
        yield made


@pytest.fixture
def session(server: HostileServer, tmp_path: Path) -> FetchSession:
    card = RestApiSourceCard.model_validate(
        {"source": "test", "base_url": server.url, "streams": [{"name": "books", "path": "/books"}]}
    )
    log = MemoryLog()
    runtime = Runtime(connect=lambda: pytest.fail("no database"), landing=str(tmp_path), resolver=Resolver())
    return FetchSession(card, runtime, lambda work: work(log), streams=("books",))


@pytest.fixture
def http(session: FetchSession, server: HostileServer) -> Iterator[HttpClient]:
    assert isinstance(session.card, RestApiSourceCard)
    with HttpClient.of(session, session.card, server.url) as made:
        yield made


def auth_card(**fields: Any) -> AuthCard:
    adapter: TypeAdapter[AuthCard] = TypeAdapter(AuthCard)
    return adapter.validate_python(fields)


OAUTH = {
    "type": "oauth2_client_credentials",
    "access_token_url": {"setting": "token_url"},
    "client_id": {"secret": "ID"},
    "client_secret": {"secret": "SECRET"},  # pragma: allowlist secret
}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (
            {"type": "bearer", "token": {"secret": "TOKEN"}},  # pragma: allowlist secret
            ("authorization", "Bearer token-1234"),
        ),
        (
            {"type": "http_basic", "username": "me", "password": {"secret": "PASSWORD"}},  # pragma: allowlist secret
            ("authorization", "Basic bWU6cGFzcy01Njc4"),
        ),
        (
            {"type": "api_key", "name": "X-Key", "api_key": {"secret": "TOKEN"}},  # pragma: allowlist secret
            ("x-key", "token-1234"),
        ),
        (
            {
                "type": "api_key",
                "name": "key",
                "api_key": {"secret": "TOKEN"},  # pragma: allowlist secret
                "location": "cookie",
            },
            ("cookie", "key=token-1234"),
        ),
    ],
)
def test_fixed_credentials_are_sent_and_hidden(
    session: FetchSession, http: HttpClient, server: HostileServer, fields: dict[str, Any], sent: tuple[str, str]
) -> None:
    http.auth = make_auth(auth_card(**fields), session, http)
    assert http.get(server.url).status == 401, "there are no others, so the refusal comes back"
    assert len(server.asked) == 1
    assert server.asked[0].headers[sent[0]] == sent[1]
    hidden = session.redactor.text(f"sent {sent[1]}")
    assert "token-1234" not in hidden
    assert "cGFzcy" not in hidden


SOME_TOKEN = {"secret": "TOKEN"}  # pragma: allowlist secret


@pytest.mark.parametrize(
    "card",
    [
        {"type": "bearer", "token": SOME_TOKEN},
        {"type": "http_basic", "username": "me", "password": SOME_TOKEN},
        {"type": "api_key", "name": "X-Key", "api_key": SOME_TOKEN},
        {"type": "api_key", "name": "key", "api_key": SOME_TOKEN, "location": "query"},
        {"type": "api_key", "name": "key", "api_key": SOME_TOKEN, "location": "cookie"},
    ],
    ids=["bearer", "basic", "header", "query", "cookie"],
)
def test_a_secret_that_is_rotated_is_read_again(
    session: FetchSession,
    http: HttpClient,
    server: HostileServer,
    card: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SECRETS, "TOKEN", "the-old-one")
    http.auth = make_auth(auth_card(**card), session, http)
    old = new = http.auth.credentials()

    def sent(asked: Asked) -> str:
        return f"{asked.target} {asked.headers}"

    def answer(asked: Asked) -> Reply:
        values = [*new.headers.values(), *new.params.values(), *new.cookies.values()]
        return json_reply({}) if all(value in sent(asked) for value in values) else Reply(401, sent(asked).encode())

    server.answer = answer
    assert http.get(server.url).ok
    monkeypatch.setitem(SECRETS, "TOKEN", "the-new-one")
    new = make_auth(auth_card(**card), session, http).credentials()
    assert new != old
    assert http.get(server.url).ok
    assert [("the-old-one" in sent(asked), "the-new-one" in sent(asked)) for asked in server.asked] in (
        [(True, False), (True, False), (False, True)],
        [(False, False)] * 3,  # basic: inside base64
    )
    monkeypatch.delitem(SECRETS, "TOKEN")
    new = old
    refused = http.get(server.url)
    assert refused.status == 401
    assert "the-" not in str(http.refusal(refused))
    assert len(server.asked) == 4, "nothing else to try"


def test_a_key_in_the_query_is_never_shown(session: FetchSession, http: HttpClient, server: HostileServer) -> None:
    card = auth_card(type="api_key", name="key", api_key={"secret": "TOKEN"}, location="query")
    http.auth = make_auth(card, session, http)
    answer = http.get(f"{server.url}/x?page=1&key=old")
    assert server.asked[0].query == {"page": "1", "key": "token-1234"}
    assert "1234" not in answer.url
    assert session.redactor.url(f"{server.url}/x?key=whatever") == f"{server.url}/x?key=***"


@pytest.mark.parametrize("where", ["body", "basic"])
def test_a_token_is_bought_once(
    session: FetchSession, http: HttpClient, server: HostileServer, api: Api, where: str
) -> None:
    card = auth_card(**OAUTH, client_auth=where, scope="read", params={"audience": "books"})
    http.auth = make_auth(card, session, http)
    for _ in range(3):
        assert http.get(f"{server.url}/x").ok
    assert api.sold == 1
    bought = server.asked[0]
    assert (bought.method, bought.path) == ("POST", "/token")
    form = bought.body.decode()
    assert "grant_type=client_credentials" in form
    assert "scope=read" in form
    assert "audience=books" in form
    assert ("client_secret=client-secret" in form) is (where == "body")
    assert bought.headers.get("authorization") == (
        None if where == "body" else "Basic Y2xpZW50LWlkOmNsaWVudC1zZWNyZXQ="
    )
    assert session.redactor.text("bought-1") == "***"


def test_a_refused_token_is_bought_again_once_a_request(
    session: FetchSession, http: HttpClient, server: HostileServer, api: Api
) -> None:
    http.auth = make_auth(auth_card(**OAUTH), session, http)
    assert http.get(f"{server.url}/x").ok
    api.valid = "revoked"
    assert http.get(f"{server.url}/x").ok
    assert api.sold == 2

    def refuses(asked: Asked) -> Reply:
        return api(asked) if asked.path == "/token" else json_reply({}, 401)

    server.answer = refuses
    assert http.get(f"{server.url}/x").status == 401
    assert api.sold == 3


def test_a_token_is_renewed_before_it_ends(http: HttpClient, server: HostileServer, api: Api) -> None:
    now = 0.0
    api.expires_in = 100
    auth = ClientCredentials(http.sibling(Api.token_url), Api.token_url, {}, None, clock=lambda: now)
    http.auth = auth
    http.get(f"{server.url}/x")
    now = 89.0
    http.get(f"{server.url}/x")
    assert api.sold == 1
    now = 91.0
    http.get(f"{server.url}/x")
    assert api.sold == 2


def test_threads_that_are_refused_buy_one_token(
    session: FetchSession, http: HttpClient, server: HostileServer, api: Api
) -> None:
    http.auth = make_auth(auth_card(**OAUTH), session, http)
    http.get(f"{server.url}/x")
    api.valid = "revoked"
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(http.get(f"{server.url}/x").status)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
    assert api.sold == 2


def test_the_token_may_be_sold_by_another_host(session: FetchSession, http: HttpClient, server: HostileServer) -> None:
    seller_api = Api()
    with HostileServer(seller_api) as seller:
        card = auth_card(**{**OAUTH, "access_token_url": f"{seller.url}/token"})
        http.auth = make_auth(card, session, http)
        assert http.get(f"{server.url}/x").status == 401
        assert {asked.path for asked in seller.asked} == {"/token"}
        assert {asked.path for asked in server.asked} == {"/x"}


def test_the_token_may_be_sold_below_the_base_url(session: FetchSession, http: HttpClient, api: Api) -> None:
    http.auth = make_auth(auth_card(**{**OAUTH, "access_token_url": "/token"}), session, http)
    assert http.get(f"{http.base_url}/x").status == 200
    assert api.sold == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (json_reply({"error": "invalid_client"}, 401), "no token was given: see `auth`"),
        (json_reply({"token": "x"}), "no JSON with an `access_token`"),
        (Reply(200, b"<html>"), "no JSON with an `access_token`"),
        (json_reply(["x"]), "no JSON with an `access_token`"),
        (json_reply({"access_token": "x", "expires_in": "soon"}), "no JSON with an `access_token`"),
    ],
)
def test_a_seller_that_gives_no_token_is_told(
    session: FetchSession, http: HttpClient, server: HostileServer, reply: Reply, said: str
) -> None:
    server.answer = lambda _: reply
    http.auth = make_auth(auth_card(**OAUTH), session, http)
    with pytest.raises(SourceError, match=said):
        http.get(f"{server.url}/x")
