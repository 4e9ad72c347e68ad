"""The secrets of a new installation in containers: made once, into folders that only those mount who need them.

Each folder is a volume: ``admin`` (the database's superuser and owner, the logins as people type them), ``steps`` (the
roles' passwords, Dagster's pgpass, what sources need), ``front`` (hashes of the logins, for the proxy), ``gui`` (the
reader's password, for the profile `tools`) and ``registry`` (the hash of the operator's login, for the profile). What
is there is kept, so the command may be repeated; what is there and weak is refused. Nothing here prints a secret.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

LEAST_LENGTH = 12
LEAST_DIFFERENT = 6
OPERATOR, VIEWER = "operator", "viewer"
STEP_ROLES = ("loader", "transformer", "features", "reader", "api", "dagster")
ADMIN_ROLES = ("owner",)
_KNOWN = frozenset(
    {"postgres", "password", "passw0rd", "changeme", "secret", "admin", "dagster", "bindery", "letmein", "default"}
)
_READ_BY_OTHERS = 0o444
"""For what another user's container reads from a volume that only it mounts."""
_OWN = 0o400
_PGPASS = 0o600


class WeakSecretError(Exception):
    """A password is one that an attacker tries first; the message names the file and the fix."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the kinds of secrets are."""

    admin: Path
    steps: Path
    front: Path
    gui: Path | None = None
    registry: Path | None = None


def make(folders: Folders, *, host: str = "postgres", port: int = 5432, database: str = "dagster") -> list[str]:
    """Make what is missing.

    Args:
        folders: Where to.
        host: Of the database, for the connection files.
        port: The same.
        database: Of Dagster's storage.

    Returns:
        Names of the files that were made.

    Raises:
        WeakSecretError: A password that is there is weak.
    """
    made: list[str] = []

    def keep(path: Path, value: str, mode: int) -> str:
        return path.read_text().strip() if path.exists() else write(path, value, mode)

    def follow(path: Path, value: str, mode: int) -> None:
        # What is made from a password changes with it.
        if not path.exists() or path.read_text() != value:
            write(path, value, mode)

    def write(path: Path, value: str, mode: int) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.new")
        staged.unlink(missing_ok=True)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(value)
            handle.flush()
            os.fsync(handle.fileno())
        staged.chmod(mode)
        staged.replace(path)
        made.append(path.name)
        return value

    def password(path: Path, mode: int = _OWN) -> str:
        value = keep(path, secrets.token_urlsafe(24), mode)
        refuse_weak(path, value)
        return value

    superuser = password(folders.admin / "postgres_password", _READ_BY_OTHERS)
    follow(
        folders.admin / "database_url",
        f"postgresql://postgres:{quote(superuser, safe='')}@{host}:{port}/postgres",
        _OWN,
    )
    for role in ADMIN_ROLES:
        password(folders.admin / f"postgres_{role}_password")
    roles = {role: password(folders.steps / f"postgres_{role}_password") for role in STEP_ROLES}
    escaped = roles["dagster"].replace("\\", "\\\\").replace(":", "\\:")
    follow(folders.steps / "pgpass", f"{host}:{port}:{database}:bindery_dagster:{escaped}\n", _PGPASS)
    logins = {name: password(folders.admin / f"{name}_password") for name in (OPERATOR, VIEWER)}
    users = folders.front / "users.caddy"
    if not users.exists() or not _hold(users.read_text(), logins):
        write(users, "".join(f"{name} {_bcrypt(value)}\n" for name, value in logins.items()), _READ_BY_OTHERS)
    if folders.gui is not None:
        follow(folders.gui / "reader_password", roles["reader"], _OWN)
    if folders.registry is not None:
        login = folders.registry / "htpasswd"
        mine = {OPERATOR: logins[OPERATOR]}
        if not login.exists() or not _hold(login.read_text(), mine, ":"):
            write(login, f"{OPERATOR}:{_bcrypt(mine[OPERATOR])}\n", _OWN)
    return made


def refuse_weak(path: Path, value: str) -> None:
    """Refuse a password that is short, has few different characters, or is a well-known one.

    Raises:
        WeakSecretError: It is.
    """
    plain = value.strip().lower().rstrip("0123456789!.-_")
    if len(value) < LEAST_LENGTH or len(set(value)) < LEAST_DIFFERENT or plain in _KNOWN:
        raise WeakSecretError(
            f"{path} holds a weak password (well known, or under {LEAST_LENGTH} characters, or few different ones). "
            "Delete the file, and a strong one is made; or write a better one"
        )


def _bcrypt(value: str) -> str:
    import bcrypt

    return bcrypt.hashpw(value.encode(), bcrypt.gensalt(rounds=10)).decode()


def _hold(text: str, logins: Mapping[str, str], between: str = " ") -> bool:
    import bcrypt

    known = dict(line.split(between, 1) for line in text.splitlines() if between in line)
    return known.keys() == logins.keys() and all(
        bcrypt.checkpw(value.encode(), known[name].encode()) for name, value in logins.items()
    )
