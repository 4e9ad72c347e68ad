"""What the machine tells pip about its package index, put into the words that uv understands.

Many machines and companies name their index, certificates and proxy for pip alone: in ``PIP_*`` variables or in a
pip.conf. uv reads neither. This module only translates; it fetches nothing and changes no setting that was made for
uv itself. It belongs to the installer, so it uses the standard library alone.
"""

from __future__ import annotations

import configparser
import dataclasses
import platform
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

PUBLIC_INDEX = "https://pypi.org/simple"
_LIST_OPTIONS = frozenset({"extra-index-url", "find-links", "trusted-host"})
_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclasses.dataclass(frozen=True)
class PipSettings:
    """The part of pip's configuration that decides where packages come from."""

    indexes: tuple[str, ...] = (PUBLIC_INDEX,)
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    certificates: str | None = None
    client_certificate: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    proxy: str | None = None
    timeout: str | None = None

    def for_uv(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables to add for uv; what the environment already says to uv is left out.

        Args:
            environment: the environment that uv is going to be started with, before these additions.
        """
        wanted: dict[str, str] = {}
        if not _names_an_index(environment):
            wanted |= self._sources()
        if self.certificates:
            wanted["SSL_CERT_FILE"] = self.certificates
        elif _has_certificate_store():
            # pip trusts the system's store since 24.2; uv brings its own unless told. Where a machine has no store
            # at all (slim images without ca-certificates) uv's own is the one that works.
            wanted["UV_SYSTEM_CERTS"] = "1"
            wanted["UV_NATIVE_TLS"] = "1"  # the name before uv 0.11
        if self.client_certificate:
            wanted["SSL_CLIENT_CERT"] = self.client_certificate
        if self.trusted_hosts:
            wanted["UV_INSECURE_HOST"] = " ".join(self.trusted_hosts)
        if self.proxy:
            wanted |= {"HTTPS_PROXY": self.proxy, "HTTP_PROXY": self.proxy}
        if self.timeout:
            wanted["UV_HTTP_TIMEOUT"] = self.timeout
        return {
            name: value for name, value in wanted.items() if name not in environment and name.lower() not in environment
        }

    def _sources(self) -> dict[str, str]:
        if self.no_index:
            return {"UV_NO_INDEX": "1", "UV_FIND_LINKS": ",".join(self.find_links)}
        if self.indexes == (PUBLIC_INDEX,):
            return {}
        # uv asks its default index last. The main one of pip has to come first: an extra one (piwheels, say) may
        # carry other builds of the same version, which the hashes of the lock refuse.
        *first, last = self.indexes
        sources = {"UV_DEFAULT_INDEX": last}
        if first:
            sources |= {"UV_INDEX": " ".join(first), "UV_INDEX_STRATEGY": "unsafe-first-match"}
        return sources


def read_pip_settings(
    environment: Mapping[str, str], system: Path = Path("/"), prefix: Path = Path(sys.base_prefix)
) -> PipSettings:
    """Read pip's configuration files and ``PIP_*`` variables, in pip's own order of precedence.

    Args:
        environment: variables of the process.
        system: where the machine's own configuration is looked for.
        prefix: where this Python's own configuration is looked for.
    """
    options: dict[str, str] = {}
    if environment.get("PIP_CONFIG_FILE") != "/dev/null":
        for path in _configuration_files(environment, system, prefix):
            options |= _read_file(path)
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = value

    lists = {name: tuple(options.get(name, "").split()) for name in _LIST_OPTIONS}
    indexes = (options.get("index-url", PUBLIC_INDEX), *lists["extra-index-url"])
    return PipSettings(
        indexes=tuple(dict.fromkeys(url.rstrip("/") for url in indexes if _exists(url))) or (PUBLIC_INDEX,),
        find_links=lists["find-links"],
        no_index=options.get("no-index", "").lower() in _TRUE,
        certificates=options.get("cert") or environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE"),
        client_certificate=options.get("client-cert"),
        trusted_hosts=lists["trusted-host"],
        proxy=options.get("proxy"),
        timeout=options.get("timeout") or options.get("default-timeout"),
    )


def without_credentials(text: str) -> str:
    """Return the text with user names and passwords inside URLs hidden, fit for a message."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def _has_certificate_store() -> bool:
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath or "/nonexistent")
    return bool(paths.cafile) or (folder.is_dir() and any(folder.iterdir()))


def _names_an_index(environment: Mapping[str, str]) -> bool:
    names = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX", "UV_FIND_LINKS")
    return any(environment.get(name) for name in names)


def _configuration_files(environment: Mapping[str, str], system: Path, prefix: Path) -> list[Path]:
    # https://pip.pypa.io/en/stable/topics/configuration/#location: a later file overrides an earlier one.
    home = Path(environment.get("HOME") or "/nonexistent")
    mac = platform.system() == "Darwin"
    shared = "Library/Application Support" if mac else "etc/xdg"
    folders = [Path(folder) for folder in environment.get("XDG_CONFIG_DIRS", "").split(":") if folder]
    files = [folder / "pip/pip.conf" for folder in reversed(folders or [system / shared])]
    files += [system / "etc/pip.conf", home / ".pip/pip.conf"]
    if mac:
        files.append(home / "Library/Application Support/pip/pip.conf")
    files.append(Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf")
    files.append(prefix / "pip.conf")
    if environment.get("PIP_CONFIG_FILE"):
        files.append(Path(environment["PIP_CONFIG_FILE"]))
    return files


def _read_file(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}  # absent or not pip's: pip itself says so where it is the one to be asked
    options: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            options |= {name.replace("_", "-"): value for name, value in parser.items(section) if value}
    return options


def _exists(url: str) -> bool:
    # pip passes over a local index that is not there; uv stops.
    parts = urlsplit(url)
    return parts.scheme != "file" or Path(parts.path).exists()
