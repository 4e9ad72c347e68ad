"""The machine: Python and dbt, room on disk, memory, ports. Asks neither Docker nor a database."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.operations.doctor.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from dagster_project.settings import Settings

OLDEST, NEWEST = (3, 11), (3, 14)
GB = 10**9
DISK_LEAST, DISK_ROOMY = 1 * GB, 5 * GB
MEMORY_LEAST, MEMORY_ROOMY = 1 * GB, 2 * GB
UI_PORT = 3000


def check_python(version: Sequence[int] = tuple(sys.version_info[:3])) -> Finding:
    """Compare the running Python with the supported ones."""
    said = ".".join(map(str, version[:3]))
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return ok("python", f"{said} at {sys.executable}")
    return fail(
        "python",
        f"{said} at {sys.executable} is not supported",
        "install Python 3.11, 3.12, 3.13 or 3.14, then `make install PYTHON=/path/to/it`",
    )


def check_dbt(settings: Settings) -> Finding:
    """Look for the dbt command."""
    if settings.in_containers:
        return ok("dbt", "in an image of its own")
    path = settings.dbt_path
    found = shutil.which(str(path))
    if found is not None:
        return ok("dbt", found)
    return fail("dbt", f"{path} isn't there or can't be run", "`make install` puts it into .venv-dbt")


def check_disk(folder: Path) -> Finding:
    """Measure what is free where the data is, or will be."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    said = f"{free / GB:.1f} GB free for {folder}"
    fix = "free some (`bindery landing prune` removes what cards no longer keep), or set BINDERY_DATA_DIR elsewhere"
    if free < DISK_LEAST:
        return fail("disk", f"{said}: loads will stop half-way", fix)
    return warn("disk", f"{said}, less than {DISK_ROOMY / GB:.0f} GB", fix) if free < DISK_ROOMY else ok("disk", said)


def check_writable(folder: Path) -> Finding:
    """Tell whether this user may write where the data is, or will be."""
    place = folder
    while not place.exists():
        place = place.parent
    if os.access(place, os.W_OK | os.X_OK):
        return ok("data", f"{folder}{'' if folder.exists() else ' will be made'}")
    return fail(
        "data",
        f"{place} can't be written by this user (uid {os.geteuid()})",
        f"run as its owner (uid {place.stat().st_uid}), or set BINDERY_DATA_DIR to a folder of your own",
    )


def check_memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Measure the memory that is available; where the system doesn't tell (macOS), the memory that is there."""
    available = _available(meminfo)
    if available is None:
        return ok("memory", "this system doesn't say how much is available")
    said = f"{available / GB:.1f} GB available"
    fix = "end other programs, or give the machine more: a run of the whole graph takes about 1.5 GB"
    if available < MEMORY_LEAST:
        return fail("memory", said, fix)
    return warn("memory", said, fix) if available < MEMORY_ROOMY else ok("memory", said)


def _available(meminfo: Path) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def check_port(port: int, what: str, fix: str, host: str = "127.0.0.1") -> Finding:
    """Tell whether a port can be had, or is held by what should hold it.

    Args:
        port: Which.
        what: What listens there when the platform runs.
        fix: What to do where something else has it.
        host: Address that is listened on.
    """
    name = f"port {port}"
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a connection that has just ended doesn't keep the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except PermissionError:
        return warn(name, f"needs more rights than this user's, for the {what}", fix)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return warn(name, f"can't be listened on at {host} ({error.strerror}), for the {what}", fix)
        if whose := _answers_as_ours(host, port):
            return ok(name, f"{whose} answers there")
        return fail(name, f"taken by another program, and it is for the {what}", fix)
    return ok(name, f"free, for the {what}")


def _answers_as_ours(host: str, port: int) -> str | None:
    """Say who answers over HTTP: Dagster's own server, or the proxy that asks for a login before it."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1" if host == "0.0.0.0" else host, port, timeout=2)  # noqa: S104
    try:
        connection.request("GET", "/server_info")
        answer = connection.getresponse()
        body = answer.read(10_000)
        if answer.status == 200 and b"dagster_webserver_version" in body:
            return "a Dagster UI"
        # What Caddy, the platform's proxy, says to whoever brings no login.
        if answer.status == 401 and 'realm="restricted"' in (answer.getheader("WWW-Authenticate") or ""):
            return "the platform's login"
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return None


def check_ports(settings: Settings) -> list[Finding]:
    """Look at the ports of a laptop: the UI's, and the code server's."""
    from dagster_project.operations.doctor.finding import softened

    found = [
        check_port(UI_PORT, "UI of `bindery dev`", "end that program, or choose another: `make dev PORT=3001`"),
    ]
    code = check_port(
        settings.code_port,
        "code server",
        "end that program, or set BINDERY_CODE_PORT to a free one",
        settings.code_host,
    )
    if code.status != "ok" and found[0].said.startswith("a Dagster UI"):
        code = ok(code.check, "`bindery dev` is running")
    # `bindery run` needs neither.
    return softened([*found, code])
