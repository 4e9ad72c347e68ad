"""Settings and secrets: what cards name and nobody gave, what an attacker would try first, and who else may read them.

No value of a secret is in what is said.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dagster_project.operations.doctor.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from dagster_project.settings import Settings

Reference = tuple[str, str]
"""``(kind, name)``: kind is ``setting`` or ``secret``."""
LOOPBACK = {"localhost", "127.0.0.1", "::1", "", None}


def check_references(settings: Settings, cards: Mapping[str, Iterable[Reference]]) -> list[Finding]:
    """Look up every setting and secret that cards refer to.

    Args:
        settings: Where they are looked up.
        cards: Source -> what its card refers to.
    """
    from dagster_project.settings import SettingsError

    found = []
    for source, references in cards.items():
        for kind, name in sorted(set(references)):
            try:
                settings.resolve_secret(name) if kind == "secret" else settings.resolve_setting(name)
            except SettingsError as error:
                said, _, fix = str(error).partition(". ")
                if "sample world isn't running" in fix:
                    # `bindery run` starts it.
                    continue
                found.append(fail(f"card {source}", said, fix or "see docs/settings.md"))
    return found or [ok("cards", f"{len(cards)}, and every setting and secret that they name has a value")]


def check_passwords(settings: Settings) -> list[Finding]:
    """Judge the passwords of the database's roles and of the database URL."""
    from dagster_project.operations.first_secrets import WeakSecretError, refuse_weak
    from dagster_project.settings import ROLES, SettingsError, password_name

    found = []
    for role in ROLES:
        path = settings.secrets_path / password_name(role)
        try:
            value = settings.find_secret(f"POSTGRES_{role.upper()}_PASSWORD")
            if value is not None:
                refuse_weak(path, value.get_secret_value())
        except WeakSecretError:
            fix = f"delete {path} and run `bindery db migrate`, which makes a strong one; or write a better one there"
            found.append(fail("passwords", f"that of the database role {role} is weak or well known", fix))
        except SettingsError as error:
            found.append(fail("passwords", str(error), f"make {path} readable for this user"))
    if settings.database_url is not None:
        url = urlsplit(settings.database_url.get_secret_value())
        try:
            if url.password:
                refuse_weak(Path("BINDERY_DATABASE_URL"), unquote(url.password))
        except WeakSecretError:
            said = "that of BINDERY_DATABASE_URL is weak or well known"
            fix = "give that login another: `alter role ... password ...`"
            near = _host(settings.database_url.get_secret_value()) in LOOPBACK
            found.append(warn("passwords", said, fix) if near else fail("passwords", said, fix))
    return found or [ok("passwords", "none of those that are there is weak")]


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return "?"


def check_readers(settings: Settings, dotenv: Path) -> list[Finding]:
    """Tell which files of secrets others on this machine may read."""
    if settings.environment != "local":
        # Mounts have the modes that who mounts them chose, and nobody else is in a container.
        return []
    folder = settings.secrets_path
    files = [path for path in _files(folder) if not path.name.startswith(".")]
    home = settings.data_dir / "postgres" / "password"
    open_to_others = [path for path in [*files, home] if _read_by_others(path)]
    found = []
    if open_to_others:
        named = " ".join(map(str, open_to_others[:3])) + (" ..." if len(open_to_others) > 3 else "")
        found.append(warn("secret files", f"others may read {named}", f"`chmod 600 {named}`"))
    if _read_by_others(dotenv) and _holds_secrets(dotenv):
        found.append(warn("secret files", f"others may read {dotenv}, which holds secrets", f"`chmod 600 {dotenv}`"))
    return found or [ok("secret files", f"{len(files)} in {folder}, this user's alone")]


def _files(folder: Path) -> Sequence[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []


def _read_by_others(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if not mode & (stat.S_IRGRP | stat.S_IROTH):
        return False
    # A folder above that nobody else may enter protects what is in it.
    return all(parent.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for parent in path.parents)


def _holds_secrets(dotenv: Path) -> bool:
    words = ("PASSWORD", "SECRET", "TOKEN", "_KEY", "DATABASE_URL", "ALERT_URLS")
    try:
        lines = dotenv.read_text(errors="replace").splitlines()
    except OSError:
        return False
    names = (line.partition("=")[0].upper() for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return any(word in name and not name.strip().endswith("_FILE") for name in names for word in words)


def check_contact(settings: Settings) -> list[Finding]:
    """Ask who is behind the requests, where real sites are read."""
    if settings.sources != "live" or "contact" in settings.model_fields_set:
        return []
    fix = "set BINDERY_CONTACT to your mail address or page: it goes into the User-Agent"
    return [warn("contact", "real sites are read, and they can't tell by whom", fix)]


def check_alerts(settings: Settings) -> list[Finding]:
    """Tell whether alerts go somewhere, and whether every sink's URL is one."""
    from dagster_project.operations.alerts.deliver import named, urls
    from dagster_project.operations.alerts.sinks import understood

    sinks = urls(settings)
    if not sinks:
        return [ok("alerts", "go nowhere: BINDERY_ALERT_URLS names no sink")]
    try:
        wrong = [named(number, url) for number, url in enumerate(sinks) if not understood(url)]
    except ImportError:
        return [fail("alerts", "the library that sends them isn't installed", "`make install`")]
    fix = "correct BINDERY_ALERT_URLS (https://appriseit.com/services); `bindery alert test` sends a message"
    if wrong:
        return [fail("alerts", f"Apprise doesn't understand the URL of {', '.join(wrong)}", fix)]
    return [ok("alerts", f"go to {len(sinks)} sinks; `bindery alert test` sends a message")]
