"""Where the uv program comes from: the one on PATH, or a private one inside the clone.

Nothing is installed outside the clone. The version and the hashes of the private copy are the ones of uv.lock. It is
fetched by pip; where the machine has no pip (Debian without python3-pip and python3-venv) or a broken one, its wheel
is read from the index by the standard library. What uv then installs is not decided here.
"""

from __future__ import annotations

import base64
import hashlib
import html.parser
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from pip_settings import PipSettings, without_credentials

_TIMEOUT_S = 60
Version = tuple[int, ...]


class UvUnavailableError(Exception):
    """uv is neither on the machine nor to be had from the index."""


def find_uv(root: Path, environment: Mapping[str, str], settings: PipSettings) -> Path:
    """Return a uv program that understands the lock, fetching a private one when there is none.

    Args:
        root: the clone, with pyproject.toml and uv.lock.
        environment: variables of the process.
        settings: where pip would get packages from.

    Raises:
        UvUnavailableError: it could not be fetched; the message has the reason and what to do.
    """
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    accepted = pyproject["tool"]["uv"]["required-version"]
    on_path = shutil.which("uv", path=environment.get("PATH"))
    if on_path and _accepts(accepted, _version(Path(on_path))):
        return Path(on_path)

    lock = tomllib.loads((root / "uv.lock").read_text(encoding="utf-8"))
    locked = next(package for package in lock["package"] if package["name"] == "uv")
    folder = root / ".venv-tools" / f"uv-{locked['version']}"
    program = folder / "bin" / "uv"
    if _version(program) is None:
        wheels = {wheel["url"].rpartition("/")[2]: wheel["hash"] for wheel in locked["wheels"]}
        _fetch(locked["version"], wheels, folder, environment, settings)
    return program


def _version(program: Path) -> Version | None:
    # Executed, because a pyenv shim named uv is there even when no uv is.
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"uv (\d+(?:\.\d+)*)", answer.stdout)
    return _numbers(found[1]) if found else None


def _numbers(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _accepts(specifier: str, version: Version | None) -> bool:
    # Only the two operators that pyproject.toml uses; anything else there is a mistake and must not pass silently.
    if version is None:
        return False
    for clause in specifier.split(","):
        bound = re.fullmatch(r"\s*(>=|<)\s*(\d+(?:\.\d+)*)\s*", clause)
        if bound is None:
            raise UvUnavailableError(f"tool.uv.required-version in pyproject.toml: cannot read {clause!r}")
        if (version >= _numbers(bound[2])) != (bound[1] == ">="):
            return False
    return True


def _fetch(
    version: str, wheels: dict[str, str], folder: Path, environment: Mapping[str, str], settings: PipSettings
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="uv-") as scratch:
        target = Path(scratch) / "uv"
        reasons = []
        for attempt in (_with_pip, _without_pip):
            try:
                attempt(version, wheels, target, environment, settings)
                break
            except UvUnavailableError as error:
                reasons.append(str(error))
                shutil.rmtree(target, ignore_errors=True)
        else:
            raise UvUnavailableError(
                without_credentials(
                    f"could not get uv {version} from {', '.join(settings.indexes)} ({'; '.join(reasons)}). Fix: check "
                    "the network, name your index in PIP_INDEX_URL and your certificates in PIP_CERT, or put a uv of "
                    "your own on PATH"
                )
            )
        # The rename is what makes it visible, so a killed download leaves nothing that looks like uv.
        shutil.rmtree(folder, ignore_errors=True)
        target.rename(folder)


def _with_pip(
    version: str, wheels: dict[str, str], target: Path, environment: Mapping[str, str], settings: PipSettings
) -> None:
    del settings  # pip reads its own
    requirement = target.parent / "requirement.txt"
    hashes = " ".join(f"--hash={digest}" for digest in wheels.values())
    requirement.write_text(f"uv=={version} {hashes}\n", encoding="utf-8")
    # --target is a private folder, which PEP 668 ("externally managed") allows. PIP_USER and PIP_REQUIRE_VIRTUALENV
    # of the user's configuration would refuse it.
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    result = subprocess.run(
        [*install, "--no-deps", "--only-binary=:all:", "--require-hashes", "--target", target, "-r", requirement],
        env={**environment, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        raise UvUnavailableError(f"pip: {lines[-1] if lines else f'exit {result.returncode}'}")


def _without_pip(
    version: str, wheels: dict[str, str], target: Path, environment: Mapping[str, str], settings: PipSettings
) -> None:
    del version  # it is part of the names of the wheels
    name = wheel_for_this_machine(sorted(wheels))
    for index in settings.indexes:
        page = f"{index}/uv/"
        try:
            body = _get(page, environment, settings).decode("utf-8", "replace")
            links = {link.partition("#")[0].rpartition("/")[2]: link for link in _links(body)}
            if name not in links:
                continue
            wheel = _get(urllib.parse.urljoin(page, links[name].partition("#")[0]), environment, settings)
        except (OSError, ValueError) as error:
            raise UvUnavailableError(f"{page}: {error}") from error
        digest = f"sha256:{hashlib.sha256(wheel).hexdigest()}"
        if digest != wheels[name]:
            raise UvUnavailableError(f"{page}: {name} has {digest}, uv.lock says {wheels[name]}")
        _unpack(wheel, target)
        return
    raise UvUnavailableError(f"no index offers {name}")


def wheel_for_this_machine(
    names: list[str],
    system: str = platform.system(),
    machine: str = platform.machine(),
    libc: str = platform.libc_ver()[0],
) -> str:
    """Return the one wheel of uv that runs here.

    Raises:
        UvUnavailableError: uv is not built for this machine.
    """
    family = "macosx" if system == "Darwin" else "manylinux" if libc == "glibc" else "musllinux"
    for name in names:
        if f"-{family}_" in name and name.removesuffix(".whl").endswith(f"_{machine}"):
            return name
    raise UvUnavailableError(f"uv has no wheel for {system} {machine} ({libc or 'unknown C library'})")


def _get(url: str, environment: Mapping[str, str], settings: PipSettings) -> bytes:
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(url)
    if parts.username:
        host = parts.netloc.rpartition("@")[2]
        request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    certificates = environment.get("SSL_CERT_FILE") or settings.certificates
    context = ssl.create_default_context(cafile=certificates if certificates and Path(certificates).exists() else None)
    if {parts.hostname, f"{parts.hostname}:{parts.port}"} & set(settings.trusted_hosts):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if settings.proxy:
        handlers.append(urllib.request.ProxyHandler({"http": settings.proxy, "https": settings.proxy}))
    with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as answer:
        body: bytes = answer.read()
    return body


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _links(page: str) -> list[str]:
    parser = _Links()
    parser.feed(page)
    return [urllib.parse.unquote(link) for link in parser.found]


def _unpack(wheel: bytes, target: Path) -> None:
    target.mkdir(parents=True)
    archive = target / "uv.whl"
    archive.write_bytes(wheel)
    with zipfile.ZipFile(archive) as packed:
        member = next(name for name in packed.namelist() if name.endswith(".data/scripts/uv"))
        program = target / "bin" / "uv"
        program.parent.mkdir()
        with packed.open(member) as source, program.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    program.chmod(0o755)
    archive.unlink()
    os.sync()
