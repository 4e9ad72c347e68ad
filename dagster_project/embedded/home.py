"""Which files make up an embedded server, and one process at a time working on them.

The folder ``postgres`` of the data directory holds the lock, the superuser's password, what is remembered of the
server, and the cluster itself. Where the account that the server runs as can't get to it (root under a 0700 home), the
cluster is in ``/var/lib/bindery-<hash>`` and the file ``location`` points to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dagster_project.embedded.account import Account, give, may_enter
from dagster_project.embedded.errors import EmbeddedError

ELSEWHERE = Path("/var/lib")
LOCK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What ``server.json`` keeps between starts."""

    port: int
    version: str


@dataclass(frozen=True, slots=True)
class Home:
    """The server's folder in one data directory."""

    data_dir: Path

    @property
    def folder(self) -> Path:
        """Folder of everything but, sometimes, the cluster."""
        return self.data_dir / "postgres"

    @property
    def password_file(self) -> Path:
        """The superuser's password, readable by this user only."""
        return self.folder / "password"

    @property
    def start_log(self) -> Path:
        """What the server says before its own log opens."""
        return self.folder / "start.log"

    @property
    def location_file(self) -> Path:
        """Points to where the cluster is, if not here."""
        return self.folder / "location"

    @property
    def elsewhere(self) -> Path:
        """Folder for what can't be in the data directory."""
        digest = hashlib.sha256(str(self.data_dir.resolve()).encode()).hexdigest()[:12]
        return ELSEWHERE / f"bindery-{digest}"

    def cluster(self) -> Path:
        """Give the folder that Postgres calls its data directory; it may not exist yet.

        Raises:
            EmbeddedError: The data directory is a copy of another, whose cluster it points to.
        """
        try:
            place, _, owner = self.location_file.read_text().strip().partition("\n")
        except FileNotFoundError:
            return self.folder / "cluster"
        if owner != str(self.data_dir.resolve()) and (Path(owner) / "postgres").exists():
            raise EmbeddedError(
                f"{self.data_dir} is a copy of {owner}, and the database of both is in {place}: delete "
                f"{self.folder} to start with a new one"
            )
        return Path(place)

    def remembered(self) -> Remembered | None:
        """Give what the last start wrote down, or None."""
        try:
            found = json.loads((self.folder / "server.json").read_text())
            return Remembered(int(found["port"]), str(found["version"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, what: Remembered) -> None:
        """Write down port and version, complete or not at all."""
        temporary = self.folder / f"server.json.{os.getpid()}"
        temporary.write_text(json.dumps({"port": what.port, "version": what.version}) + "\n")
        temporary.replace(self.folder / "server.json")

    def place_cluster(self, account: Account | None) -> Path:
        """Decide where a new cluster goes, and write it down where that is elsewhere.

        Raises:
            EmbeddedError: There is no place that the account can get to.
        """
        if account is None:
            return self.folder / "cluster"
        self.folder.chmod(0o711)
        if may_enter(account, self.folder):
            return self.folder / "cluster"
        place = self.elsewhere
        try:
            place.mkdir(mode=0o711, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"the account {account.name!r} can't get to {self.folder}, and {place} can't be made "
                f"({error.strerror}): put BINDERY_DATA_DIR where {account.name!r} may enter"
            ) from None
        cluster = place / "cluster"
        self.location_file.write_text(f"{cluster}\n{self.data_dir.resolve()}\n")
        return cluster

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time work on the server's files. The lock dies with its holder.

        Raises:
            EmbeddedError: Another process has had it for five minutes, or the folder can't be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError as error:
            raise EmbeddedError(
                f"{self.folder} belongs to somebody else ({error.strerror}): run as the user who made it, or set "
                "BINDERY_DATA_DIR to a folder of your own"
            ) from None
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EmbeddedError(f"another process has held {self.folder / 'lock'} for minutes") from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def make_private_folder(path: Path, account: Account | None) -> None:
    """Make a folder that only the account can enter."""
    path.mkdir(mode=0o700)
    give(account, path)
