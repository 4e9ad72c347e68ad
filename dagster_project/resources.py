"""What steps are given: the platform (settings, engine runtime, connections) and the warehouse for DataFrames.

Built from run config at the step's start; nothing is opened or imported before a step asks for it. What a run is
about - everything, or a few rows in the scratch database - is said once here, for every op of the run.
"""

# No postponed annotations here: Dagster reads those of a resource's fields as they are.
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from dagster_project.execution.storage import keep_connections

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from dagster_project.ingest.runtime import Progress, Runtime
    from dagster_project.settings import Role, Settings
    from dagster_project.warehouse.frame_write import WriteReport
    from dagster_project.warehouse.frames import Warehouse as Frames


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]  # the resource is its own value
    """Settings, connections and folders, for the length of a step."""

    debug_rows: int = Field(
        default=0,
        ge=0,
        description="At most so many rows of each stream, in the scratch database; the real one isn't touched. "
        "0 means everything, in the real one.",
    )
    full_refresh: bool = Field(
        default=False,
        description="Forget cursors and read everything again; dbt builds incremental models from nothing.",
    )

    _run_id: str | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Note the run, and make the scratch database where this run is the first to need it."""
        if context.instance is not None and context.instance.is_persistent:
            keep_connections(context.instance)
        run = context.run
        self._run_id = run.run_id if run is not None else None
        if self.debug_rows and run is not None:
            from dagster_project.warehouse.debug_run import ensure_scratch

            ensure_scratch(self.settings, run.root_run_id or run.run_id)

    @property
    def settings(self) -> "Settings":
        """Give the settings, read again when a secret file changed."""
        from dagster_project.settings import get_settings

        return get_settings()

    @property
    def notified(self) -> bool:
        """Say whether a queue tells of uploads."""
        return self.settings.uploads_queue_url is not None

    @property
    def database(self) -> str | None:
        """Name the database of this run, None for the warehouse itself."""
        return self.settings.debug_database if self.debug_rows else None

    def connect(self, role: "Role", *, autocommit: bool = False) -> "psycopg.Connection[Any]":
        """Open a connection to the database of this run."""
        from dagster_project import warehouse

        return warehouse.connect(self.settings, role, self.database, autocommit=autocommit)

    def runtime(self, *, run_id: str | None = None, progress: "Callable[[Progress], None] | None" = None) -> "Runtime":
        """Make what the engine works with."""
        from dagster_project.runtime import engine_runtime

        return engine_runtime(self.settings, database=self.database, run_id=run_id or self._run_id, progress=progress)


class Warehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The warehouse for Python assets: tables in and out as pandas DataFrames, types kept."""

    platform: dg.ResourceDependency[Platform]

    @property
    def frames(self) -> "Frames":
        """Give the warehouse of this run, with the rights of the role ``features``."""
        from dagster_project.warehouse.frames import Warehouse as Frames

        return Frames(self.platform.settings, database=self.platform.database)

    def read_frame(
        self, sql_or_table: str, parameters: "Mapping[str, Any] | Sequence[Any] | None" = None
    ) -> "pd.DataFrame":
        """Read a table (``schema.table``) or the result of one SELECT."""
        return self.frames.read_frame(sql_or_table, parameters)

    def write_frame(
        self,
        frame: "pd.DataFrame",
        table: str,
        mode: Literal["replace", "append", "merge"] = "replace",
        key: str | Sequence[str] = (),
    ) -> "WriteReport":
        """Write a frame to a table as one change."""
        return self.frames.write_frame(frame, table, mode, key)

    def describe(self, table: str, report: "WriteReport") -> dict[str, Any]:
        """Describe a table after a write, as metadata of the asset."""
        from dagster_project.components.report import preview, table_columns

        schema, _, name = table.partition(".")
        with self.frames.connect() as connection, connection.cursor() as cursor:
            columns = table_columns(cursor, schema, name)
            sample = preview(cursor, schema, name, [column for column, _ in columns])
        return {
            "dagster/table_name": table,
            "dagster/row_count": report.rows,
            "dagster/column_schema": dg.TableSchema(columns=[dg.TableColumn(column, kind) for column, kind in columns]),
            "inserted": report.inserted,
            "updated": report.updated,
            "unchanged": report.unchanged,
            "sample": dg.MetadataValue.md(sample),
        }
