"""Tables as pandas DataFrames, both ways, types kept, at COPY's speed.

``Warehouse`` is what Python assets and notebooks hold. Rows of sources don't pass here: the engine loads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from dagster_project.settings import Role, Settings
from dagster_project.warehouse.connection import connect
from dagster_project.warehouse.frame_types import FrameError, TableName

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from dagster_project.warehouse.frame_write import WriteReport

__all__ = ["FrameError", "Warehouse"]


class Warehouse:
    """Read and write tables as DataFrames, with the rights of one role."""

    def __init__(self, settings: Settings, role: Role = "features", database: str | None = None) -> None:
        """Keep what is needed to connect; each call opens and closes a connection of its own.

        Args:
            settings: Say which server.
            role: Whose rights: ``features`` reads raw, staging and marts and writes features; ``reader`` only reads.
            database: Another database than the warehouse.
        """
        self.settings = settings
        self.role = role
        self.database = database

    def connect(self) -> psycopg.Connection[Any]:
        """Open a connection with the role's rights, for statements that are not about frames."""
        return connect(self.settings, self.role, self.database)

    def read_frame(
        self, sql_or_table: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> pd.DataFrame:
        """Read a table (``schema.table``) or the result of one SELECT.

        Whole numbers come as ``Int64`` (``Int32``, ``Int16``), truth values as ``boolean``, text as ``string``, so that
        NULL stays NULL and nothing becomes a float; ``timestamptz`` as ``datetime64[us, UTC]``; ``date`` and
        ``numeric(p, s)`` as Arrow types; ``numeric`` without precision as ``Decimal`` objects, digit for digit; jsonb,
        arrays and pgvector as Python objects, lists and float32 arrays.

        Args:
            sql_or_table: A table's name, or SQL with ``%(name)s`` or ``%s`` for parameters.
            parameters: Values of the placeholders; never put values into the SQL.

        Raises:
            FrameError: A value can't be told in pandas (a date ``infinity``), or two columns have one name.
        """
        from dagster_project.warehouse.frame_read import read_frame

        with self.connect() as connection:
            return read_frame(connection, sql_or_table, parameters)

    def write_frame(
        self,
        frame: pd.DataFrame,
        table: str,
        mode: Literal["replace", "append", "merge"] = "replace",
        key: str | Sequence[str] = (),
    ) -> WriteReport:
        """Write a DataFrame to a table as one change: all of it, or nothing. The table is made if it isn't there.

        Missing values (NaN of a NumPy float column, None, NaT, NA) become NULL; NaN of a nullable or Arrow column is
        a number and stays NaN. The index is not written.

        Args:
            frame: The rows.
            table: ``schema.table``.
            mode: ``replace`` the rows, keeping the table with its grants and the views on it; ``append``; or ``merge``
                by the key: new keys are inserted, changed rows updated, equal ones not touched.
            key: Columns that identify a row; the table's primary key when it is made.

        Raises:
            FrameError: A column's values don't fit its type or the table's, or the key isn't one; nothing is written.
        """
        from dagster_project.warehouse.frame_write import write_frame

        keys = (key,) if isinstance(key, str) else tuple(key)
        with self.connect() as connection:
            return write_frame(connection, frame, TableName.parse(table), mode, keys)
