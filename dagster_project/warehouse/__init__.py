"""The warehouse: its databases, roles and own tables, connections to it, and DataFrames in and out.

How rows of sources get into ``raw`` is the engine's (``ingest``); marts are dbt's. Nothing heavy is imported until it
is used.
"""

from __future__ import annotations

from dagster_project.warehouse.connection import WarehouseError, WarehouseUnavailableError, connect
from dagster_project.warehouse.ready import ensure_ready
from dagster_project.warehouse.scratch import clone_database, create_scratch, drop_scratch

__all__ = [
    "WarehouseError",
    "WarehouseUnavailableError",
    "clone_database",
    "connect",
    "create_scratch",
    "drop_scratch",
    "ensure_ready",
]
