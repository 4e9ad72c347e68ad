"""Which hosts and addresses a fetch may talk to, kept at the one place where connections are made.

A URL that an API or a page hands out must not make us ask machines inside our own network. So hosts are checked by
name at each hop, and addresses when the connection is made: the address that was checked is the one connected to, so a
name that resolves differently a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util import connection as connecting

from dagster_project.ingest.errors import SourceError
from dagster_project.ingest.fetch.deadline import TimedConnection

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenTarget(SourceError):
    """A URL leads where this fetch may not go."""


def split_url(url: str) -> SplitResult:
    """Take a URL apart.

    Raises:
        ForbiddenTarget: It is none, or not http or https.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ForbiddenTarget(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ForbiddenTarget(f"{url!r}: only http:// and https:// URLs with a host are fetched")
    return parts


def join_url(base: str, link: str) -> str:
    """Give the whole URL of a link.

    Raises:
        ForbiddenTarget: It is no URL.
    """
    try:
        return urljoin(base, link)
    except ValueError as error:
        raise ForbiddenTarget(f"{link!r} is no URL: {error}") from None


def host_of(parts: SplitResult) -> str:
    """Name host and port."""
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


def without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """Take user and password out of a URL."""
    parts = split_url(url)
    if "@" not in parts.netloc:
        return url, None
    login = unquote(parts.username or ""), unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), login


INSIDE = (".internal", ".local", ".lan", ".home.arpa")
"""Endings of names that the public DNS doesn't have."""


class Hosts:
    """The hosts that may be asked, and the one that gets the credentials."""

    def __init__(self, base_url: str, also: Iterable[str] = (), *, allow_private: bool = False) -> None:
        self._base = split_url(base_url)
        self._also = {host.lower() for host in also}
        self._allow_private = allow_private
        self._allow_loopback = _is_loopback(self._base.hostname or "")
        self._allow_inside = _is_inside(self._base.hostname or "")

    def check(self, url: str) -> SplitResult:
        """Refuse a URL that leads elsewhere.

        Raises:
            ForbiddenTarget: Its scheme or host isn't allowed.
        """
        parts = split_url(url)
        same = self.owns(url) or (parts.hostname == self._base.hostname and self._default_ports(parts))
        if not same and not {parts.hostname, host_of(parts)} & self._also:
            raise ForbiddenTarget(
                f"the host {host_of(parts)} is not the base URL's own ({host_of(self._base)}): add it to "
                "`allowed_hosts` in the card if it may be asked"
            )
        return parts

    def owns(self, url: str) -> bool:
        """Tell whether a URL is of the base URL's own host, which gets credentials; https may replace http."""
        parts = urlsplit(url)
        if (parts.scheme, parts.hostname) == (self._base.scheme, self._base.hostname):
            return host_of(parts) == host_of(self._base)
        upgraded = (self._base.scheme, parts.scheme) == ("http", "https")
        return upgraded and parts.hostname == self._base.hostname and self._default_ports(parts)

    def upgrade(self, url: str) -> str:
        """Write https where a link of the base URL's own host says http: servers behind a proxy often do."""
        if self._base.scheme == "https" and url.startswith("http://"):
            parts = urlsplit(url)
            if parts.hostname == self._base.hostname and parts.port in {None, 80, self._base.port}:
                return "https://" + self._base.netloc.rpartition("@")[2] + url[len("http://") + len(parts.netloc) :]
        return url

    def allows(self, address: str) -> bool:
        """Tell whether an IP address may be connected to."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            inner = ip.ipv4_mapped or ip.sixtofour
            if inner is None and ip in _NAT64:
                inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
            ip = inner or ip
        if ip.is_loopback:
            return self._allow_loopback or self._allow_private
        if self._allow_inside and ip.is_private and not ip.is_link_local:
            return True
        return self._allow_private or (ip.is_global and not ip.is_multicast)

    def _default_ports(self, parts: SplitResult) -> bool:
        return all(p.port in {None, _PORTS[p.scheme]} for p in (parts, self._base))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_inside(host: str) -> bool:
    """Tell whether a host can only be meant inside a network: a private address, or a name that no public DNS has."""
    if not host or _is_loopback(host):
        return False
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(INSIDE)


class GuardedAdapter(HTTPAdapter):
    """A transport of ``requests`` that connects to allowed addresses only. Retries are the client's matter."""

    def __init__(self, hosts: Hosts, connections: int, deadline: float) -> None:
        """Make a transport.

        Args:
            hosts: Those that are allowed.
            connections: Most that are kept open to one host.
            deadline: Seconds for one answer, from the request to its last byte.
        """
        self._hosts = hosts
        self._deadline = deadline
        super().__init__(pool_connections=8, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Make the pool manager whose connections are guarded."""
        hosts, deadline = self._hosts, self._deadline

        class PlainConnection(TimedConnection):
            seconds = deadline

            def _new_conn(self) -> socket.socket:
                return _connect(self, hosts, deadline)

        class TlsConnection(TimedConnection, HTTPSConnection):
            seconds = deadline

            def _new_conn(self) -> socket.socket:
                return _connect(self, hosts, deadline)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = PlainConnection

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = TlsConnection

        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}


def _connect(connection: HTTPConnection, hosts: Hosts, seconds: float) -> socket.socket:
    """Resolve, check, and connect to an address that was checked; a name with many is given up after ``seconds``."""
    until = time.monotonic() + seconds
    try:
        found = socket.getaddrinfo(connection._dns_host, connection.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(connection.host, connection, socket.gaierror(str(error))) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    allowed = [address for address in addresses if hosts.allows(address)]
    if not allowed:
        raise ForbiddenTarget(
            f"{connection.host} has the address {addresses[0]}, which is not on the public internet: set "
            "`allow_private: true` in the card if this source is inside your network"
        )
    failure: OSError | None = None
    for address in allowed:
        try:
            sock = connecting.create_connection(
                (address, connection.port),
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError as error:
            failure = error
            if time.monotonic() >= until:
                break
            continue
        if not hosts.allows(str(sock.getpeername()[0])):
            sock.close()
            raise ForbiddenTarget(f"{connection.host} led to another address than it was checked for")
        return sock
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"connecting to {connection.host} timed out") from failure
    raise NewConnectionError(connection, f"connecting to {connection.host} failed: {failure}") from failure
