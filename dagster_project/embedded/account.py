"""The account that the server runs as: our own, or an unprivileged one when we are root, which Postgres refuses."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_project.embedded.errors import EmbeddedError


@dataclass(frozen=True, slots=True)
class Account:
    """An account to which privileges are dropped."""

    name: str
    uid: int
    gid: int


def unprivileged_account(name: str) -> Account | None:
    """Give the account to run the server as, or None where our own will do.

    Raises:
        EmbeddedError: We are root and the account named in the settings doesn't exist or is root too.
    """
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedError(
            f"Postgres doesn't run as root and the account {name!r} doesn't exist: set BINDERY_EMBEDDED_USER to one"
        ) from None
    if found.pw_uid == 0:
        raise EmbeddedError(f"Postgres doesn't run as root: BINDERY_EMBEDDED_USER={name!r} is root")
    return Account(name, found.pw_uid, found.pw_gid)


def identity(account: Account | None) -> dict[str, Any]:
    """Give the arguments with which ``subprocess`` starts a program as the account, without our extra groups."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def run_as(
    account: Account | None,
    command: Sequence[str],
    *,
    env: dict[str, str],
    timeout: float | None = None,
    text: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as the account, from a folder that every account may enter.

    Raises:
        OSError: It can't be started.
        subprocess.TimeoutExpired: It took longer.
    """
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=env,
        cwd="/",
        timeout=timeout,
        **identity(account),
    )


def may_enter(account: Account, folder: Path) -> bool:
    """Ask the system whether the account can get into a folder through all those above it."""
    try:
        return run_as(account, ["/bin/sh", "-c", 'cd -- "$0"', str(folder)], env={}, timeout=10).returncode == 0
    except OSError as error:
        raise EmbeddedError(
            f"this root can't become {account.name!r} ({error.strerror}), and Postgres doesn't run as root: run as an "
            "ordinary user, or set BINDERY_DATABASE_URL"
        ) from None


def give(account: Account | None, path: Path) -> None:
    """Make the account the owner of a file or folder."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
