"""Fetching dropped files: whole files of a folder, landed byte for byte, each observation once.

What is a new observation: a file whose bytes differ from those of the same path landed last. So the same bytes in
succession are one, and contents A, B, A are three. A file that changes while it is read waits for the next look.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.ingest.cards.file import FileSourceCard, FileStream
from dagster_project.ingest.errors import CardError, IngestError, SourceError
from dagster_project.ingest.fetch.folder import Found, Passed, find_files, is_new, visible
from dagster_project.ingest.fetch.session import FetchSession, StreamBatch
from dagster_project.ingest.fetch.waiting import give_up
from dagster_project.ingest.output.write import refuse_loop
from dagster_project.ingest.s3.place import is_bucket, place_of

if TYPE_CHECKING:
    from dagster_project.ingest.landing.log import Log
    from dagster_project.ingest.landing.model import LandedObject

_TRIES = 3
_PATIENCE = 5.0
"""Seconds that a fetch waits for young files at most; older rules leave them to the next look."""
_SHOWN = 5


class FileChanged(SourceError):
    """A file was written to while it was read."""

    transient = True


class FileFetcher:
    """Fetches the sources of file cards."""

    def fetch(self, session: FetchSession) -> None:
        """Land the new files of each stream."""
        card = session.card
        assert isinstance(card, FileSourceCard)
        refuse_loop(card, session.runtime)
        path = session.value(card.path)
        if is_bucket(path):
            from dagster_project.ingest.fetch.bucket import fetch_bucket

            fetch_bucket(session, card, place_of(path))
            return
        folder = folder_of(card, path, session.runtime.base)
        for name in session.streams:
            stream = card.stream(name)
            assert isinstance(stream, FileStream)
            _StreamOfFiles(session, card, stream, folder).fetch()


def folder_of(card: FileSourceCard, path: str, base: Path) -> Path:
    """Give the folder of a card.

    Raises:
        CardError: It is a file, or can't be looked at.
    """
    try:
        folder = Path(path).expanduser()
        folder = folder if folder.is_absolute() else base / folder
        is_file = folder.exists() and not folder.is_dir()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise CardError(f"source {card.source!r}: `path: {visible(path)}` can't be looked at ({why})") from None
    if is_file:
        raise CardError(f"source {card.source!r}: `path: {path}` is a file; name its folder and put it into `files`")
    return folder


class _StreamOfFiles:
    """One stream of one fetch."""

    def __init__(self, session: FetchSession, card: FileSourceCard, stream: FileStream, folder: Path) -> None:
        self._session = session
        self._card = card
        self._stream = stream
        self._folder = folder
        self._errors: list[str] = []
        self._transient = True
        self._resumed = False

    def fetch(self) -> None:
        session, name = self._session, self._stream.name
        session.figures(name)
        if not self._folder.is_dir():
            session.warn(name, f"the folder {visible(self._folder)} isn't there: no files; make it, or correct `path`")
            return
        if session.full_refresh and session.limit is None and self._stream.write == "append":
            give_up(session, self._stream, session.waiting(name))
        opened = session.log(lambda log: log.open_one(session.card.source, name, session.partition))
        # An open batch is taken up first: if the card has changed it is abandoned, and what it held counts as unseen.
        batch = self._open() if opened is not None else None
        last = {} if session.full_refresh else session.last_seen(name)
        passed: list[Passed] = []
        new, waiting = self._new(last, passed)
        unseen = self._pass_over(passed)
        if session.limit is not None:
            new = new[:1]
        for files in self._shares(new):
            if batch is None and not files:
                break
            batch = batch or self._open()
            with batch:
                self._land_all(batch, files)
                complete = session.full_refresh and session.limit is None and not (self._errors or waiting or unseen)
                batch.seal(complete=complete)
            batch = None
        self._settle_announced(waiting)
        if self._errors:
            session.fail(name, _failure(self._errors, self._transient))

    def _shares(self, new: list[Found]) -> list[list[Found]]:
        """Put the files of one fetch into batches that a load can take one after another, in order.

        Where they only mean something together (the newest batch is the table, or what is missing is deleted) they stay
        together.
        """
        stream, most = self._stream, self._session.runtime.load_bytes
        shares: list[list[Found]] = [[]]
        size = 0
        for found in new:
            if shares[-1] and size + found.size > most and stream.write != "replace" and stream.missing == "keep":
                shares.append([])
                size = 0
            shares[-1].append(found)
            size += found.size
        return shares

    def _open(self) -> StreamBatch:
        return self._session.open(self._stream.name, repr((1, str(self._folder), sorted(self._stream.patterns))))

    def _land_all(self, batch: StreamBatch, new: list[Found]) -> None:
        source, name = self._session.card.source, self._stream.name
        announced = {landed.origin: landed for landed in self._session.log(lambda log: log.announced(source, name))}
        before = {landed.fingerprint for landed in batch.landed()}
        self._resumed = batch.figures.resumed = self._resumed or bool(before)
        for found in new:
            if found.fingerprint not in before:
                self._land(batch, found, announced.get(found.origin))

    def _new(self, last: dict[str, LandedObject], passed: list[Passed]) -> tuple[list[Found], list[str]]:
        """List the files to land, in order, and those that are too young."""
        settle = self._card.settle
        found = list(find_files(self._folder, self._stream.patterns, passed))
        youngest = min((each.age() for each in found if not each.seen_as(last.get(each.origin))), default=settle)
        if 0 < settle - youngest <= _PATIENCE:
            # Better to wait a moment than to leave a file to a look that may be a day away.
            time.sleep(max(settle - youngest, 0) + 0.05)
            passed.clear()
            found = list(find_files(self._folder, self._stream.patterns, passed))
        new, waiting = [], []
        for each in found:
            if each.seen_as(last.get(each.origin)):
                continue
            if each.age() < settle:
                waiting.append(each.origin)
                continue
            try:
                if is_new(each, last.get(each.origin)):
                    new.append(each)
                else:
                    self._session.figures(self._stream.name).unchanged += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                self._unreadable(each, error)
        if waiting:
            self._session.warn(
                self._stream.name,
                f"{len(waiting)} files may still be written and wait for the next look: {_some(waiting)}",
            )
        if self._card.order == "modified":
            new.sort(key=lambda each: (each.mtime_ns, each.origin))
        else:
            new.sort(key=lambda each: each.origin)
        return new, waiting

    def _pass_over(self, passed: list[Passed]) -> bool:
        """Say what isn't taken; tell whether files may be missing for it."""
        others: dict[str, list[str]] = {}
        for each in passed:
            if each.refused:
                self._errors.append(f"{visible(self._folder)}/{each.name}: {each.why}")
                self._transient = False
            else:
                others.setdefault(each.why, []).append(each.name)
        for why, names in others.items():
            self._session.warn(self._stream.name, f"passed over: {_some(names)}: {why}")
        return any(each.unseen for each in passed)

    def _land(self, batch: StreamBatch, found: Found, announced: LandedObject | None) -> None:
        """Land one file, unless it can't be read or never stands still."""
        now: Found | None = found
        for _ in range(_TRIES):
            if now is None:
                self._session.warn(self._stream.name, f"{visible(found.origin)} vanished before it could be read")
                return
            found = now
            landing_id = announced.landing_id if announced and announced.fingerprint == found.fingerprint else None
            try:
                with found.path.open("rb") as file:
                    batch.land(
                        _Steady(file, found),
                        fingerprint=found.fingerprint,
                        origin=found.origin,
                        meta=found.meta,
                        name=found.path.name,
                        landing_id=landing_id,
                    )
                return
            except FileNotFoundError:
                now = None
            except FileChanged:
                now = next((each for each in find_files(self._folder, [_literal(found.origin)])), None)
            except OSError as error:
                self._unreadable(found, error)
                return
            except SourceError as error:  # the archive's word for a file that can't be read to its end
                self._errors.append(f"{visible(found.path)}: {error}")
                return
        self._session.warn(self._stream.name, f"{visible(found.origin)} is being written: it waits for the next look")

    def _unreadable(self, found: Found, error: OSError) -> None:
        why = error.strerror or error
        self._errors.append(f"{visible(found.path)} can't be read ({why}): check its owner and permissions")
        self._transient = False

    def _settle_announced(self, waiting: list[str]) -> None:
        """Close announcements of files that won't be landed any more, so that nobody waits for them."""
        if self._session.limit is None:
            self._session.log(lambda log: self._close(log, waiting))

    def _close(self, log: Log, waiting: list[str]) -> None:
        for landed in log.announced(self._session.card.source, self._stream.name):
            if landed.origin not in waiting and landed.landing_id is not None:
                log.mark_failed(landed.landing_id, "the file is gone, unchanged or unreadable")


def _some(names: list[str]) -> str:
    return ", ".join(map(visible, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _literal(origin: str) -> str:
    """Write a path as a pattern that matches it alone."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in origin)


def _failure(errors: list[str], transient: bool) -> IngestError:
    message = "; ".join(errors[:_SHOWN]) + (f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else "")
    return FileChanged(message) if transient else SourceError(message)


class _Steady:
    """A file's bytes, with a look at its end whether it is still the file that was found."""

    def __init__(self, file: Any, found: Found) -> None:
        self._file = file
        self._found = found
        self._read = 0

    def read(self, size: int = -1, /) -> bytes:
        """Give bytes; at the end check that nothing moved."""
        data: bytes = self._file.read(size)
        self._read += len(data)
        if self._read > self._found.size:  # a file may grow faster than it is read
            raise FileChanged(f"{self._found.origin} grew while it was read")
        if not data or size < 0:
            self._check()
        return data

    def _check(self) -> None:
        try:
            by_name = self._found.path.stat()
        except FileNotFoundError:
            by_name = None
        opened = os.fstat(self._file.fileno())
        wanted = (self._found.size, self._found.mtime_ns)
        # Read to its end is enough for a file that was taken away; one that was replaced or goes on is another.
        now = [(each.st_size, each.st_mtime_ns) for each in (opened, by_name) if each is not None]
        if any(each != wanted for each in now):
            raise FileChanged(f"{self._found.origin} changed while it was read")
