"""The errors of the engine, by who has to act: card author, source, data, database.

A permanent failure is never retried; a transient one may be. Each class carries the exit code that the command line
ends with.
"""

from __future__ import annotations


class IngestError(Exception):
    """Base of every error that the engine raises on purpose."""

    exit_code = 1
    transient = False


class CardError(IngestError):
    """A card says something that can't be carried out: its author has to change it."""

    exit_code = 2


class SourceError(IngestError):
    """The source didn't give what the card asks for, and asking again won't help."""

    exit_code = 3


class TransientSourceError(SourceError):
    """The source failed in a way that may pass: time-outs, 429, 5xx, broken connections."""

    transient = True


class DataRefusedError(IngestError):
    """The data break the card's contract or thresholds, so that nothing of the load was kept."""

    exit_code = 4


class DamagedObjectError(DataRefusedError):
    """One landed object can't be read, whatever the card says: it is damaged, too large or locked."""


class UnreadableObjectsError(DataRefusedError):
    """Landed objects couldn't be read; everything else of the load was kept."""


class DatabaseError(IngestError):
    """Postgres can't be reached or refused a statement that the engine meant to succeed."""

    exit_code = 5


class TransientDatabaseError(DatabaseError):
    """Postgres failed in a way that may pass: a broken connection, a lock held by somebody else."""

    transient = True


class LandingError(IngestError):
    """The archive of raw bytes is damaged or can't be written."""

    exit_code = 5


class TransientLandingError(LandingError):
    """The archive of raw bytes didn't answer: asking again may help."""

    transient = True
