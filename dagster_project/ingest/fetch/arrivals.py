"""Looking for new files without landing them: what a sensor does, many times an hour, as cheaply as it can.

Each new observation is announced in the landing log; the fetch lands it. The log decides what is new.
"""

from __future__ import annotations

import os

from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.ingest.fetch.files import folder_of
from dagster_project.ingest.fetch.folder import find_files, is_new
from dagster_project.ingest.landing.log import LandingLog
from dagster_project.ingest.landing.model import LandedObject
from dagster_project.ingest.runtime import Runtime


def announce_arrivals(card: FileSourceCard, runtime: Runtime) -> list[LandedObject]:
    """Announce the new files of a source.

    Files that may still be written, and those that can't be opened, wait: the fetch reports the latter.

    Returns:
        Everything that is announced and not landed yet, in order; empty where there is nothing to fetch.
    """
    folder = folder_of(card, runtime.text(card.path), runtime.base)
    with runtime.connect() as connection:
        connection.autocommit = True
        log = LandingLog(connection)
        for stream in card.streams:
            last = log.last_seen(card.source, stream.name)
            for found in find_files(folder, stream.patterns) if folder.is_dir() else ():
                seen = last.get(found.origin)
                if found.seen_as(seen) or found.age() < card.settle or not os.access(found.path, os.R_OK):
                    continue
                try:
                    new = is_new(found, seen)
                except OSError:
                    continue
                if new:
                    log.announce(card.source, stream.name, found.fingerprint, found.origin, found.meta)
        return log.announced(card.source)
