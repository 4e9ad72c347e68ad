"""Credentials: what a request carries so that the host knows who asks.

Each kind gives ``Credentials`` for the next request, and may renew them once when the host answers 401. The client
(``http``) decides where they may go: to the base URL's own host, nowhere else.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from dagster_project.ingest.cards import rest as cards
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.message import Request

if TYPE_CHECKING:
    from dagster_project.ingest.fetch.http import HttpClient
    from dagster_project.ingest.fetch.session import FetchSession

SLACK = 30.0
"""Seconds before its end in which a token isn't used any more, or a tenth of its life where that is less."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is added to a request."""

    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)


class Auth(Protocol):
    """One way of telling who asks."""

    def credentials(self) -> Credentials:
        """Give what the next request carries."""
        ...

    def renew(self, refused: Credentials) -> bool:
        """Get others than those that were refused with 401; tell whether there are any."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Credentials that don't change."""

    fixed: Credentials

    def credentials(self) -> Credentials:
        """Give them."""
        return self.fixed

    def renew(self, refused: Credentials) -> bool:
        """Tell that there are no others."""
        return False


class Referred:
    """Credentials made of what the card refers to, read once more where the host refuses them: secrets get rotated."""

    def __init__(self, read: Callable[[], Credentials]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._now = read()

    def credentials(self) -> Credentials:
        """Give those that were read last."""
        return self._now

    def renew(self, refused: Credentials) -> bool:
        """Read them again, unless another thread has done so since; tell whether they are others."""
        with self._lock:
            if self._now == refused:
                try:
                    self._now = self._read()
                except Exception:  # noqa: BLE001 - a secret is gone meanwhile: that the host answered 401 is what is told
                    return False
            return self._now != refused


class ClientCredentials:
    """OAuth 2 client credentials (RFC 6749, 4.4): a token bought with id and secret, before the first request."""

    def __init__(
        self,
        client: HttpClient,
        url: str,
        form: dict[str, str],
        login: tuple[str, str] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._url = url
        self._form = form
        self._headers = {} if login is None else {"Authorization": basic(*login)}
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Credentials | None = None
        self._until = float("inf")

    def credentials(self) -> Credentials:
        """Give the token; buy one where there is none or it is about to end."""
        with self._lock:
            if self._token is None or self._clock() >= self._until:
                self._token = self._buy()
            return self._token

    def renew(self, refused: Credentials) -> bool:
        """Buy another token, unless another thread has done so since."""
        with self._lock:
            if self._token is refused:
                self._token = self._buy()
            return True

    def _buy(self) -> Credentials:
        answer = self._client.send(
            Request(
                self._url,
                "POST",
                headers={"Accept": "application/json", **self._headers},
                form=self._form,
                repeatable=True,
                authenticate=False,
            )
        )
        if not answer.ok:
            raise self._client.refusal(answer, "no token was given: see `auth` in the card")
        try:
            given: Any = msgspec.json.decode(answer.read())
            token = given["access_token"]
            life = float(given.get("expires_in") or "inf")
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise SourceError(f"{answer.url} gave no JSON with an `access_token` ({answer.size} bytes)") from None
        kind = "Bearer" if str(given.get("token_type", "bearer")).lower() == "bearer" else given["token_type"]
        self._client.redactor.add(str(token), "access_token")
        self._until = self._clock() + life - min(SLACK, life / 10)
        return Credentials(headers={"Authorization": f"{kind} {token}"})


def make_auth(card: cards.Auth, session: FetchSession, client: HttpClient) -> Auth:
    """Make what a card's ``auth`` asks for."""
    text = session.value
    match card:
        case cards.Bearer():
            return Referred(lambda: Credentials(headers={"Authorization": f"Bearer {text(card.token)}"}))
        case cards.Basic():
            return Referred(lambda: _login(session, basic(text(card.username), text(card.password))))
        case cards.ApiKey():
            if card.location == "query":
                session.redactor.add_parameter(card.name)
            place = {"query": "params", "cookie": "cookies"}.get(card.location, "headers")
            return Referred(lambda: Credentials(**{place: {card.name: text(card.api_key)}}))
        case cards.OAuth2ClientCredentials():
            pair_of_client = text(card.client_id), text(card.client_secret)
            form = {"grant_type": "client_credentials", **card.params}
            if card.scope:
                form["scope"] = card.scope
            if card.client_auth == "body":
                form |= {"client_id": pair_of_client[0], "client_secret": pair_of_client[1]}
            login = pair_of_client if card.client_auth == "basic" else None
            url = text(card.access_token_url)
            if "://" not in url:
                url = f"{client.base_url.rstrip('/')}/{url.lstrip('/')}"
            return ClientCredentials(client.sibling(url), url, form, login)


def _login(session: FetchSession, pair: str) -> Credentials:
    session.redactor.add(pair.partition(" ")[2], "basic")
    return Credentials(headers={"Authorization": pair})


def basic(user: str, password: str) -> str:
    """Write user and password as HTTP basic authentication does (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
