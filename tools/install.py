"""Installs Bindery into the clone: ``.venv`` for the project, ``.venv-dbt`` for dbt, both from uv.lock.

Standard library only, because it runs before anything is installed, and it parses on Python 3.8, so that it can
refuse one in a line. It can be repeated, killed and started twice at once: a stamp inside each environment says what
it was made from and is written last; an environment whose making was cut short is made anew. What is installed is
decided by pyproject.toml and uv.lock, not here. The reasons are in docs/decisions/0002-install.md.
"""

from __future__ import annotations

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.implementation.name != "cpython":
    sys.exit(
        f"bindery: needs CPython 3.11, 3.12, 3.13 or 3.14; found {sys.implementation.name} "
        f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable}). Fix: install one, or name one: "
        "make PYTHON=/path/to/python3.13 ..."
    )

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv-tools"
PROJECT_VENV = ROOT / ".venv"
DBT_VENV = ROOT / ".venv-dbt"
STAMP = ".bindery-installed.json"
UNFINISHED = ".bindery-unfinished"

Say = Callable[[str], None]


class InstallError(Exception):
    """The installation cannot go on; the message has the reason and the fix."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring both environments up to date with the lock.

    Args:
        arguments: command line without the program's name.

    Returns:
        Exit status: 0 when both environments are complete.
    """
    parser = argparse.ArgumentParser(prog="tools/install.sh", description="Install Bindery into this clone.")
    parser.add_argument("--with", dest="groups", action="append", default=[], metavar="GROUP", help="dev, bench, ...")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    options = parser.parse_args(arguments)
    started = time.monotonic()

    def say(message: str) -> None:
        if not options.quiet:
            print(f"bindery: {message}", flush=True)

    wanted = {PROJECT_VENV: {"laptop", *options.groups}, DBT_VENV: {"dbt"}}
    base = base_python()
    if all(is_current(venv, groups, base) for venv, groups in wanted.items()):
        return 0
    try:
        TOOLS.mkdir(exist_ok=True)
        with one_at_a_time(TOOLS / "lock", say):
            stale = {venv: groups for venv, groups in wanted.items() if not is_current(venv, groups, base)}
            if stale:
                install(stale, base, say)
                say(f"installed in {time.monotonic() - started:.0f} s")
    except InstallError as error:
        print(f"bindery: install failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"bindery: install failed: {error}. Fix: make room, or get the right to write there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbindery: install stopped; the next one continues", file=sys.stderr)
        return 130
    return 0


def base_python() -> str:
    """Return the interpreter that environments are made from, also when this runs inside one of them."""
    # Resolved, because inside an environment /usr/bin/python3 is known as /usr/bin/python3.11.
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def key(venv: Path, base: str) -> str:
    """Return what an environment is made from, as one hash. The path counts: environments cannot be moved."""
    digest = hashlib.sha256(f"{venv}\n{base}\n{sys.version}\n".encode())
    for name in ("uv.lock", "pyproject.toml", "tools/install.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def stamp_of(venv: Path) -> dict[str, Any]:
    """Return the stamp that the last complete installation left, or an empty one."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and isinstance(stamp.get("groups"), list) else {}


def is_current(venv: Path, groups: set[str], base: str) -> bool:
    """Tell whether an environment is complete, up to date and has at least these dependency groups."""
    stamp = stamp_of(venv)
    return stamp.get("key") == key(venv, base) and groups <= set(stamp["groups"])


@contextlib.contextmanager
def one_at_a_time(path: Path, say: Say) -> Iterator[None]:
    """Hold the clone's installation lock; the kernel drops it when the holder dies."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another install is running in this clone; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install(stale: dict[Path, set[str]], base: str, say: Say) -> None:
    """Install the environments that are not up to date.

    Args:
        stale: for each environment's folder, the dependency groups asked for.
        base: interpreter to make environments from.
        say: takes a line for the user.

    Raises:
        InstallError: uv is not to be had, or it failed.
    """
    # Imported here: they need a supported Python, and most runs of this program have nothing to do.
    from pip_settings import read_pip_settings
    from uv_program import UvUnavailableError, find_uv

    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
    settings = read_pip_settings(environment)
    say(f"Python {'.'.join(map(str, sys.version_info[:3]))} ({base})")
    try:
        uv = find_uv(ROOT, environment, settings)
    except UvUnavailableError as error:
        raise InstallError(str(error)) from error
    environment.update(settings.for_uv(environment), UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1")
    if "UV_CACHE_DIR" not in environment and not _has_writable_home(environment):
        environment["UV_CACHE_DIR"] = str(TOOLS / "cache")
    for venv, groups in stale.items():
        bring_up_to_date(uv, venv, groups, base, environment, say)


def bring_up_to_date(uv: Path, venv: Path, groups: set[str], base: str, environment: dict[str, str], say: Say) -> None:
    """Make one environment match the lock, and stamp it."""
    old = stamp_of(venv)
    # Groups that an earlier `make test` added stay: `make run` after it must not take pytest away again.
    groups = groups | set(old.get("groups", []))
    unfinished = venv / UNFINISHED
    if unfinished.exists() or old.get("base", base) != base or not works(venv):
        # A package whose copying was cut short looks installed to uv: only a new environment is known to be whole.
        run([uv, "venv", "--clear", "--no-project", "--python", base, venv], environment)
    unfinished.touch()
    (venv / STAMP).unlink(missing_ok=True)

    listed = TOOLS / f"requirements{venv.name}.txt"
    kind = "--only-group" if venv == DBT_VENV else "--group"
    chosen = [word for group in sorted(groups) for word in (kind, group)]
    export: list[str | Path] = [uv, "export", "--frozen", "--no-default-groups", "--no-emit-project", "--project", ROOT]
    run([*export, *chosen, "--output-file", listed], environment)

    python = venv / "bin" / "python"
    count = sum(line[:1].isalnum() for line in listed.read_text(encoding="utf-8").splitlines())
    say(f"installing {count} packages into {venv.name} ({', '.join(sorted(groups))}) ...")
    run([uv, "pip", "sync", "--python", python, "--require-hashes", "--compile-bytecode", listed], environment)
    if venv == PROJECT_VENV:
        # uv builds this project with the backend it carries, so nothing is downloaded here.
        run([uv, "pip", "install", "--python", python, "--no-deps", "--editable", ROOT], environment)

    fresh = venv / f"{STAMP}.new"
    fresh.write_text(json.dumps({"key": key(venv, base), "groups": sorted(groups), "base": base}), encoding="utf-8")
    unfinished.unlink()
    fresh.replace(venv / STAMP)


def works(venv: Path) -> bool:
    """Tell whether an environment's interpreter starts: its base may have been upgraded away."""
    try:
        probe = subprocess.run([venv / "bin" / "python", "-c", ""], capture_output=True, check=False)
    except OSError:
        return False
    return probe.returncode == 0 and (venv / "pyvenv.cfg").is_file()


def run(command: Sequence[str | Path], environment: dict[str, str]) -> None:
    """Run uv, and show its output only when it fails.

    Raises:
        InstallError: uv failed; the message ends with what it said.
    """
    from pip_settings import without_credentials

    result = subprocess.run(
        [str(word) for word in command], env=environment, cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    if result.returncode:
        said = without_credentials(result.stderr or result.stdout).strip()
        raise InstallError(f"`{' '.join(str(word) for word in command[1:3])}` exited {result.returncode}\n{said}")


def _has_writable_home(environment: dict[str, str]) -> bool:
    return any(os.access(environment.get(name) or "/nonexistent", os.W_OK) for name in ("XDG_CACHE_HOME", "HOME"))


if __name__ == "__main__":
    sys.exit(main())
