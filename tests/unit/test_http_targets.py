"""Where a fetch may go: hosts, redirects, addresses; and what of a request goes where."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from dagster_project.ingest.cards.http import HttpOptions
from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.auth import Credentials, Fixed
from dagster_project.ingest.fetch.http import HttpClient
from dagster_project.ingest.fetch.message import Request
from dagster_project.ingest.fetch.network import ForbiddenTarget, Hosts
from tests.integration.hostile_server import Asked, HostileServer, Reply, json_reply

OK = json_reply({"fine": True})


def redirecting(asked: Asked) -> Reply:
    """``/to?url=...&status=...`` redirects there."""
    if asked.path == "/to":
        return Reply(int(asked.query.get("status", "302")), headers={"Location": asked.query["url"]})
    return OK


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer(redirecting) as made:
        yield made


@pytest.fixture
def other() -> Iterator[HostileServer]:
    with HostileServer(redirecting) as made:
        yield made


def client(server: HostileServer, **options: Any) -> HttpClient:
    made = HttpClient(HttpOptions.model_validate(options), server.url, contact="me", headers={"X-Card": "card-secret"})
    made.auth = Fixed(Credentials({"Authorization": "Bearer abcd"}, {"api_key": "k-secret"}, {"sid": "c-secret"}))
    return made


def test_redirects_are_followed_with_credentials_on_the_own_host(server: HostileServer) -> None:
    with client(server) as http:
        answer = http.get(f"{server.url}/to?url=/to%3Furl=/end%253Fpage=2")
    assert answer.ok
    assert [asked.path for asked in server.asked] == ["/to", "/to", "/end"]
    last = server.asked[-1]
    assert last.query == {"page": "2", "api_key": "k-secret"}  # pragma: allowlist secret
    assert (last.headers["authorization"], last.headers["cookie"], last.headers["x-card"]) == (
        "Bearer abcd",
        "sid=c-secret",
        "card-secret",
    )
    assert answer.url == f"{server.url}/end?page=2"


def test_another_host_is_refused_without_a_word_to_it(server: HostileServer, other: HostileServer) -> None:
    with (
        client(server) as http,
        pytest.raises(ForbiddenTarget, match=r"the redirect of .* leads to .*add it to `allowed_hosts`"),
    ):
        http.get(f"{server.url}/to?url={other.url}/x")
    assert other.asked == []


def test_an_allowed_host_gets_no_credentials(server: HostileServer, other: HostileServer) -> None:
    with client(server, allowed_hosts=[other.url.removeprefix("http://")]) as http:
        answer = http.send(
            Request(f"{server.url}/to?url={other.url}/x", headers={"X-Own": "own-secret", "If-None-Match": '"1"'})
        )
        http.get(f"{other.url}/direct")
    assert answer.ok
    assert [asked.target for asked in other.asked] == ["/x", "/direct"]
    sent = " ".join(str(asked.headers) for asked in other.asked)
    assert "secret" not in sent
    assert "abcd" not in sent
    assert other.asked[0].headers["if-none-match"] == '"1"'


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/", "//", "http://", "http://[::1"]
)
def test_other_schemes_and_nonsense_are_refused(server: HostileServer, target: str) -> None:
    with client(server) as http:
        with pytest.raises(ForbiddenTarget):
            http.send(Request(target))
        with pytest.raises(SourceError):
            http.send(Request(f"{server.url}/to", params={"url": target.replace("//", "//x.invalid", 1)}))


def test_a_loop_of_redirects_ends(server: HostileServer) -> None:
    def loop(_: Asked) -> Reply:
        return Reply(302, headers={"Location": "/again"})

    server.answer = loop
    with client(server) as http, pytest.raises(SourceError, match="more than 10 redirects"):
        http.get(server.url)
    assert len(server.asked) == 11


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_post_changes_as_the_standard_says(server: HostileServer, status: int) -> None:
    with client(server) as http:
        http.send(
            Request(f"{server.url}/to", "POST", params={"url": "/end", "status": str(status)}, json_body={"q": 1})
        )
    kept = status in {307, 308}
    assert (server.asked[1].method, server.asked[1].body) == (("POST", b'{"q": 1}') if kept else ("GET", b""))


def test_a_post_is_not_carried_to_another_host(server: HostileServer, other: HostileServer) -> None:
    request = Request(f"{server.url}/to", "POST", params={"url": f"{other.url}/x", "status": "307"}, json_body={})
    with (
        client(server, allowed_hosts=["127.0.0.1"]) as http,
        pytest.raises(SourceError, match=r"redirects a POST to .*another host"),
    ):
        http.send(request)
    assert other.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("2002:0a00:0001::1", False),
        ("::", False),
    ],
)
def test_addresses_inside_networks_are_refused_unless_allowed(address: str, public: bool) -> None:
    assert Hosts("https://example.org").allows(address) is public
    assert Hosts("https://example.org", allow_private=True).allows(address)


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://shop.localhost", True),
        ("https://example.org", False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1.example.org", False),
    ],
)
def test_loopback_goes_with_a_base_on_loopback(base: str, allowed: bool) -> None:
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert Hosts(base).allows(address) is allowed
    assert Hosts(base).allows("10.0.0.1") is (base == "http://10.0.0.1")


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("http://world:8080", True),
        ("http://api.shop.internal", True),
        ("http://nas.local", True),
        ("http://192.168.1.5", True),
        ("http://[fd00::5]", True),
        ("http://local.example.org", False),
        ("https://example.org", False),
        ("http://localhost:8000", False),
        ("http://93.184.216.34", False),
    ],
)
def test_private_addresses_go_with_a_base_that_can_only_be_inside(base: str, allowed: bool) -> None:
    for address in ("172.27.0.2", "10.0.0.1", "fd00::1", "::ffff:10.0.0.1"):
        assert Hosts(base).allows(address) is allowed
    for address in ("169.254.169.254", "fe80::1%eth0", "224.0.0.1"):
        assert not Hosts(base).allows(address)
    assert Hosts("http://world:8080").allows("127.0.0.1") is False


def test_a_name_that_resolves_inside_is_refused_when_connecting(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with DNS rebinding: the name looks public, the address isn't."""
    port = int(server.url.rpartition(":")[2])
    resolve = socket.getaddrinfo

    def rebound(host: str, *args: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host == "rebound.example" else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    with (
        HttpClient(HttpOptions(), f"http://rebound.example:{port}", contact="me") as http,
        pytest.raises(ForbiddenTarget, match=r"address 127\.0\.0\.1.*allow_private: true"),
    ):
        http.get(f"http://rebound.example:{port}/x")
    assert server.asked == []
    options = HttpOptions(allow_private=True)
    with HttpClient(options, f"http://rebound.example:{port}", contact="me") as http:
        assert http.get(f"http://rebound.example:{port}/x").ok


def test_a_private_address_behind_a_redirect_is_refused(server: HostileServer) -> None:
    with (
        client(server, allowed_hosts=["10.0.0.1"]) as http,
        pytest.raises(ForbiddenTarget, match=r"10\.0\.0\.1, which is not on the public internet"),
    ):
        http.get(f"{server.url}/to?url=http://10.0.0.1/admin")


@pytest.mark.parametrize(
    ("base", "url", "owned", "allowed"),
    [
        ("https://api.example.org/v1", "https://api.example.org/v2", True, True),
        ("https://api.example.org", "https://API.example.org:443/x", True, True),
        ("http://api.example.org", "https://api.example.org/x", True, True),
        ("https://api.example.org", "http://api.example.org/x", False, True),
        ("https://api.example.org", "https://api.example.org:8443/x", False, False),
        ("https://api.example.org", "https://evil.org/api.example.org", False, False),
        ("https://api.example.org", "https://api.example.org@evil.org/", False, False),
        ("https://api.example.org", "https://x.api.example.org/", False, False),
    ],
)
def test_who_is_the_own_host(base: str, url: str, owned: bool, allowed: bool) -> None:
    hosts = Hosts(base)
    assert hosts.owns(url) is owned
    if allowed:
        hosts.check(url)
    else:
        with pytest.raises(ForbiddenTarget):
            hosts.check(url)


@pytest.mark.parametrize(
    ("link", "upgraded"),
    [
        ("http://api.example.org/p?page=2", "https://api.example.org/p?page=2"),
        ("http://api.example.org:80/p", "https://api.example.org/p"),
        ("http://other.org/p", "http://other.org/p"),
        ("https://api.example.org/p", "https://api.example.org/p"),
    ],
)
def test_links_of_servers_behind_a_proxy_are_upgraded(link: str, upgraded: str) -> None:
    assert Hosts("https://api.example.org/v1").upgrade(link) == upgraded


def test_user_and_password_in_the_base_url_become_credentials(server: HostileServer) -> None:
    base = server.url.replace("http://", "http://me:pass%40word@")
    with HttpClient(HttpOptions(), base, contact="me") as http:
        assert http.base_url == server.url
        answer = http.get(base + "/x")
        assert http.redactor.text("it is pass@word") == "it is ***"
    assert server.asked[0].headers["authorization"] == "Basic bWU6cGFzc0B3b3Jk"
    assert "pass" not in answer.url


def test_the_environments_proxy_is_not_asked(server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with client(server) as http:
        assert http.get(server.url).ok
