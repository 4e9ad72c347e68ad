"""The file: a plain tar of dumps in parts, landed objects, ``SHA256SUMS`` and at last ``manifest.json``.

Written and read from start to end, so that it may go through a pipe. Nothing of ours is needed to open it:
``tar xf FILE && sha256sum -c SHA256SUMS && cat warehouse.dump.* | pg_restore ...``. Without its last member it isn't
whole, and says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from dagster_project.operations.backup import BackupError

FORMAT = 1
PART = 16 * 2**20
"""Bytes of a part: a member of a tar says its size before its content, and a dump doesn't know its own."""
SUMS, MANIFEST = "SHA256SUMS", "manifest.json"
LANDING = "landing/"
_BLOCK = 2**20


@dataclass(slots=True)
class Dump:
    """One database in a backup."""

    name: str
    """Of the database."""
    server: int
    """Major version of the Postgres it was in."""
    version: str | None = None
    """Of our own tables; Dagster's keeps account of itself."""
    bytes: int = 0
    sha256: str = ""


@dataclass(slots=True)
class Landing:
    """The landed bytes in a backup."""

    files: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Manifest:
    """What a backup is."""

    created_at: str
    bindery: str
    code: str | None
    project: str
    dumps: dict[str, Dump] = field(default_factory=dict)
    """``warehouse`` and ``dagster``."""
    landing: Landing | None = None
    """None where landed bytes were left out."""
    sums: str = ""
    """sha256 of ``SHA256SUMS``."""
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Give its text."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def of_json(cls, text: bytes) -> Manifest:
        """Read its text.

        Raises:
            BackupError: It is another format's, or nonsense.
        """
        try:
            told: dict[str, Any] = json.loads(text)
            if told["format"] != FORMAT:
                raise BackupError(
                    f"the backup has format {told['format']}, this release reads {FORMAT}: update Bindery"
                )
            dumps = {name: Dump(**each) for name, each in told.pop("dumps").items()}
            landing = told.pop("landing")
            return cls(**told, dumps=dumps, landing=Landing(**landing) if landing is not None else None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(f"the backup's manifest can't be read: {error}") from None


class Writer:
    """Writes one backup, member after member."""

    def __init__(self, out: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - until finish()
        self._sums: list[str] = []

    def add_dump(self, key: str, dump: Dump, content: IO[bytes]) -> None:
        """Write a dump in parts as it arrives, and note its size and hash."""
        whole, number = hashlib.sha256(), 0
        while part := content.read(PART):
            whole.update(part)
            self._add(f"{key}.dump.{number:06d}", part)
            number += 1
            dump.bytes += len(part)
        dump.sha256 = whole.hexdigest()

    def add_landing(self, root: Path) -> Landing:
        """Write every landed object. Objects never change; one that is removed meanwhile is needed by nobody."""
        done = Landing()
        for path in sorted((root / "objects").glob("*/*")):
            if path.suffix == ".removed":
                continue
            try:
                with path.open("rb") as file:
                    info = tarfile.TarInfo(LANDING + path.relative_to(root).as_posix())
                    info.size, info.mode = file.seek(0, io.SEEK_END), 0o600
                    info.mtime = int(path.stat().st_mtime)
                    file.seek(0)
                    hashing = _Hashing(file)
                    self._tar.addfile(info, hashing)
            except FileNotFoundError:
                continue
            self._sums.append(f"{hashing.hexdigest()}  {info.name}\n")
            done.files += 1
            done.bytes += info.size
        return done

    def finish(self, manifest: Manifest) -> None:
        """Write checksums and manifest; after this the backup is whole."""
        sums = "".join(self._sums).encode()
        self._add(SUMS, sums)
        manifest.sums = hashlib.sha256(sums).hexdigest()
        self._add(MANIFEST, manifest.to_json())
        self._tar.close()

    def _add(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
        self._tar.addfile(info, io.BytesIO(content))
        if name not in {SUMS, MANIFEST}:
            self._sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")


class _Hashing:
    """Reads a file and hashes what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._hash.update(block)
        return block

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def verify(source: IO[bytes]) -> Manifest:
    """Read a backup to its end and prove every byte of it.

    Raises:
        BackupError: It is cut off or damaged; the message names the member.
    """
    found: dict[str, str] = {}
    sums, manifest = b"", b""
    for name, content in members(source):
        if name == MANIFEST:
            manifest = b"".join(content)
            continue
        digest = hashlib.sha256()
        kept = []
        for block in content:
            digest.update(block)
            if name == SUMS:
                kept.append(block)
        found[name] = digest.hexdigest()
        sums = b"".join(kept) or sums
    if not manifest:
        raise BackupError("the backup is cut off: its last member, manifest.json, is missing. Take another one")
    told = Manifest.of_json(manifest)
    if found.pop(SUMS, "") != told.sums:
        raise BackupError(f"the backup is damaged: {SUMS} isn't what the manifest says. Take another one")
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in sums.decode().splitlines())}
    for name in sorted(found.keys() | listed.keys()):
        if found.get(name) != listed.get(name):
            what = "is missing" if name not in found else "isn't what was written"
            raise BackupError(f"the backup is damaged: {name} {what}. Take another one")
    return told


def dump_of(source: IO[bytes], key: str) -> Iterator[bytes]:
    """Give the bytes of one dump, and prove them once more.

    Raises:
        BackupError: They aren't what the manifest says.
    """
    digest, manifest = hashlib.sha256(), b""
    for name, content in members(source):
        if name == MANIFEST:
            manifest = b"".join(content)
        elif name.startswith(f"{key}.dump."):
            for block in content:
                digest.update(block)
                yield block
    if not manifest or Manifest.of_json(manifest).dumps[key].sha256 != digest.hexdigest():
        raise BackupError(f"the backup changed while it was read: the dump {key} isn't what it was")


def put_landing(source: IO[bytes], root: Path) -> Landing:
    """Write a backup's landed objects below a landing root; what is there already stays.

    Raises:
        BackupError: A member leads out of the landing root.
    """
    done = Landing()
    for name, content in members(source):
        if not name.startswith(LANDING):
            continue
        relative = PurePosixPath(name.removeprefix(LANDING))
        if relative.is_absolute() or ".." in relative.parts or relative.parts[:1] != ("objects",):
            raise BackupError(f"the backup has a landed object outside its folder: {name}")
        path = root / relative
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.restoring")
        with staged.open("wb") as file:
            for block in content:
                file.write(block)
                done.bytes += len(block)
        staged.replace(path)
        done.files += 1
    return done


def members(source: IO[bytes]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Give each member's name and blocks, in order.

    Raises:
        BackupError: It isn't a tar, or ends in the middle of a member.
    """
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for info in tar:
                file = tar.extractfile(info) if info.isfile() else None
                if file is None:
                    raise BackupError(f"the backup is damaged: {info.name} is no file")
                yield info.name, _blocks(file)
    except _UNREADABLE as error:
        raise _cut_off(error) from None


_UNREADABLE = (tarfile.TarError, EOFError, OSError)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    try:
        while block := file.read(_BLOCK):
            yield block
    except _UNREADABLE as error:
        raise _cut_off(error) from None


def _cut_off(error: Exception) -> BackupError:
    return BackupError(f"the backup is cut off or damaged ({error}). Take another one")
