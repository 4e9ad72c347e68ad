"""Values that come as files: a folder of secrets, and files in dotenv format.

Knows the layouts that Docker secrets, Kubernetes Secrets and Vault Agent mount, and notices when they are rotated.
Which names are looked for, and which layer wins, is decided in ``layers``; the environment is not read here.
"""

from __future__ import annotations

import json
import os
import secrets as entropy
import shlex
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 1_000_000
"""A larger file in the folder is not a secret; reading it at every command would cost."""

Signature = tuple[object, ...]


class SecretFileError(OSError):
    """A file of secrets is there and can't be used; the message names it, the reason and the fix."""


@dataclass(frozen=True, slots=True)
class FolderContent:
    """What a folder of secrets held at one moment."""

    values: dict[str, tuple[str, Path]] = field(default_factory=dict)
    """Name in lower case -> (value, the file it came from)."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Name in lower case -> why its file couldn't be read."""


_folders: dict[Path, tuple[Signature, FolderContent]] = {}
_dotenvs: dict[Path, tuple[Signature, dict[str, str]]] = {}


def read_folder(folder: Path) -> FolderContent:
    """Read a folder of secrets; a folder that hasn't changed since the last call costs only its ``stat`` calls.

    One file is one secret, named after it (``database_url``, ``GUTENBERG_TOKEN``), one trailing line end removed. A
    file that ends in ``.env`` or ``.json`` holds several. Kubernetes keeps the real files in a hidden folder and swaps
    the link ``..data`` on rotation: hidden entries are skipped, and a swap in the middle of reading starts it again.

    Returns:
        The content; empty where the folder doesn't exist.
    """
    for _ in range(5):
        before = folder_signature(folder)
        cached = _folders.get(folder)
        if cached is not None and cached[0] == before:
            return cached[1]
        content = _read_folder_now(folder)
        if folder_signature(folder) == before:
            _folders[folder] = (before, content)
            return content
    raise SecretFileError(f"{folder}: changes faster than it can be read")


def folder_signature(folder: Path) -> Signature:
    """Describe the state of a folder so that any rotation shows: links, inodes, sizes and times of its files."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return ()
    except OSError as error:
        return (str(folder), error.errno)
    link: object = None
    data = folder / "..data"
    if data.is_symlink():
        link = data.readlink()
    return (str(folder), link, *(_file_signature(folder / name) for name in names))


def _file_signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except OSError as error:
        return (path.name, error.errno)
    return (path.name, found.st_mtime_ns, found.st_ino, found.st_size)


def _read_folder_now(folder: Path) -> FolderContent:
    content = FolderContent()
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return content
    except OSError as error:
        raise SecretFileError(f"{folder}: the folder of secrets can't be listed ({error.strerror})") from error
    for path in paths:
        name = path.name.lower().replace("-", "_")
        if path.is_dir():
            continue
        try:
            if path.stat().st_size > MAX_BYTES:
                content.unreadable[name] = f"{path}: larger than {MAX_BYTES:,} bytes, so not a secret"
                continue
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".env":
                pairs = parse_dotenv(text, path)
            elif path.suffix == ".json":
                pairs = _parse_json(text, path)
            else:
                pairs = {name: one_line_end_removed(text)}
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            content.unreadable[name] = f"{path}: {reason}"
            continue
        content.values.update({key.lower(): (value, path) for key, value in pairs.items()})
    return content


def _parse_json(text: str, path: Path) -> dict[str, str]:
    """Read what Vault's ``toJSON`` writes: one object of names and plain values."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON at line {error.lineno}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: should hold one JSON object of names and values")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}


def one_line_end_removed(text: str) -> str:
    """Take off the line end that editors and ``echo`` add; anything else belongs to the secret."""
    return text.removesuffix("\n").removesuffix("\r")


def read_secret_file(path: Path) -> str:
    """Read one file that holds one secret.

    Raises:
        SecretFileError: It can't be read.
    """
    try:
        return one_line_end_removed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SecretFileError(f"{path}: can't be read ({reason})") from None


def read_dotenv(path: Path) -> dict[str, str]:
    """Read a ``.env`` file, again only after it changed; a missing file is empty.

    Raises:
        SecretFileError: A line isn't ``NAME=value``; the message gives file and line.
    """
    signature = _file_signature(path)
    cached = _dotenvs.get(path)
    if cached is not None and cached[0] == signature:
        return cached[1]
    try:
        pairs = parse_dotenv(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        pairs = {}
    except ValueError as error:
        raise SecretFileError(str(error)) from None
    except OSError as error:
        raise SecretFileError(f"{path}: can't be read ({error.strerror})") from None
    _dotenvs[path] = (signature, pairs)
    return pairs


def parse_dotenv(text: str, path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines: ``export``, quotes and comments as a shell reads them, no substitution.

    Raises:
        ValueError: A line is something else.
    """
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.removeprefix("export ").partition("=")
        name = name.strip()
        if not equals or not name.replace("_", "a").isalnum():
            raise ValueError(f"{path}:{number}: expected NAME=value")
        value = value.strip()
        if value[:1] in {"'", '"'}:
            try:
                words = shlex.split(value, comments=True)
            except ValueError:
                raise ValueError(f"{path}:{number}: a quote of {name} isn't closed") from None
            value = words[0] if words else ""
        elif " #" in value:
            value = value.split(" #", 1)[0].rstrip()
        pairs[name] = value
    return pairs


def write_secret(path: Path, value: str) -> None:
    """Write a secret that only this user can read, complete or not at all, durable before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{entropy.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
