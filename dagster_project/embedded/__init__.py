"""Postgres without Docker: a server from a wheel's binaries, one per data directory.

Starting, stopping and looking at the server belong here. What is in it (databases, roles, tables) is ``warehouse``'s.
"""

from __future__ import annotations

from dagster_project.embedded.errors import DiskFullError, EmbeddedError
from dagster_project.embedded.server import ServerInfo, ServerStatus, start, status, stop

__all__ = ["DiskFullError", "EmbeddedError", "ServerInfo", "ServerStatus", "start", "status", "stop"]
