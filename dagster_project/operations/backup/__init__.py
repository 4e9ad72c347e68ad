"""Backup and restore: warehouse, Dagster's storage and landed bytes in one archive that proves itself.

``archive`` is the file format, ``programs`` are Postgres' own, ``make`` writes a backup, ``restore`` brings one back,
``frames`` is how the dumps of a database in a container arrive. Roles, passwords and sources' secrets are in no backup.
"""

from __future__ import annotations


class BackupError(Exception):
    """A backup can't be made, or is damaged, or can't be restored here; the message says why and what to do."""

    exit_code = 5
