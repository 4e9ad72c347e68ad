"""What the tests of the loader share: a runtime, a card over a folder of files, and looks into the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from dagster_project import warehouse
from dagster_project.ingest import pipeline
from dagster_project.ingest.cards import FileSourceCard, SourceCard
from dagster_project.ingest.load.report import LoadReport, StreamLoad
from dagster_project.ingest.runtime import Progress, Runtime
from dagster_project.settings import Settings
from tests.integration.references import Values


class World:
    """A folder of files, the card that reads it, and the database that it is loaded into."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder / "files"
        self.folder.mkdir()
        self.seen: list[Progress] = []
        self.runtime = Runtime(
            connect=lambda: warehouse.connect(settings, "loader"),
            landing=str(folder / "landing"),
            resolver=Values(),
            progress=self.seen.append,
            run_id="run-1",
            code="test",
        )

    def card(self, *streams: dict[str, Any], source: str = "src", **rest: Any) -> FileSourceCard:
        """Make a card; a stream without files reads those that begin with its name."""
        whole = [{"files": [f"{stream['name']}*"], **stream} for stream in streams]
        return FileSourceCard.model_validate(
            {"source": source, "path": str(self.folder), "settle": 0, "streams": whole, **rest}
        )

    def write(self, name: str, text: str | bytes) -> None:
        """Put a file into the folder."""
        (self.folder / name).write_bytes(text.encode() if isinstance(text, str) else text)

    def run(self, card: SourceCard, **options: Any) -> LoadReport:
        """Fetch and load."""
        return pipeline.run_source(card, self.runtime, **options).load

    def load(self, stream: dict[str, Any], text: str, name: str | None = None, **options: Any) -> StreamLoad:
        """Write one file of one stream and load it; give the stream's report."""
        number = len(list(self.folder.iterdir()))
        self.write(name or f"{stream['name']}{number}.csv", text)
        return self.run(self.card(stream), **options).streams[stream["name"]]

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database, as the loader."""
        with warehouse.connect(self.settings, "loader", autocommit=True) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def one(self, statement: str, *values: Any) -> Any:
        """Give the first value."""
        return self.rows(statement, *values)[0][0]

    def types(self, table: str = "src__t") -> dict[str, str]:
        """Give the columns of a raw table with their types."""
        return dict(
            self.rows(
                "select attname, format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = ('raw.' || quote_ident(%s))::regclass and attnum > 0 and not attisdropped "
                "order by attnum",
                table,
            )
        )

    def execute(self, role: Any, *statements: str) -> None:
        """Do something as a role."""
        with warehouse.connect(self.settings, role, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def connection(self, role: Any = "loader") -> psycopg.Connection[Any]:
        """Open a connection as a role."""
        return warehouse.connect(self.settings, role)
