"""Rows into Postgres: Arrow writes CSV, COPY reads it, in a thread of its own so that both sides work at once.

Each block is one COPY in a savepoint. Should Postgres refuse a row that was proven all the same, the block is cut in
halves until the row is alone; it goes to the quarantine and the others are kept.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv

from dagster_project.ingest.load.names import quoted
from dagster_project.ingest.load.quarantine import Reason
from dagster_project.ingest.load.session import Session

if TYPE_CHECKING:
    from dagster_project.ingest.load.blocks import Block

_BATCH: Final = 8192
"""Rows that Arrow writes at a time."""
_SLICE: Final = 1024 * 1024
"""Bytes of text whose CSV is in memory at a time, about."""
_PIECE: Final = 1024 * 1024
"""Bytes handed to libpq at a time."""
_REFUSALS: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)


@dataclass(slots=True)
class Job:
    """Proven rows of one block on their way."""

    block: Block
    table: str
    """Where to, quoted."""
    names: list[str]
    arrays: list[pa.Array]
    rows: int
    plain: bool
    """Whether no column can hold text, so that nothing needs quotes."""
    kept: pa.Array | None = None
    """Rows of the block that are sent; None: all of them."""
    refused: dict[int, Reason] = field(default_factory=dict)
    """Row of the block -> why Postgres refused it; filled while copying."""
    seconds: float = 0.0

    def row(self, index: int) -> int:
        """Give the block's row of a sent row."""
        return index if self.kept is None else int(self.kept[index].as_py())


class Copier:
    """Copies jobs one after another in a thread; at most one waits."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[Job] | None = None

    def submit(self, job: Job) -> Job | None:
        """Send a job as soon as the one before is done; give that one.

        The connection is the thread's until ``drain``: nobody else may use it meanwhile.
        """
        done = self.drain()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "bindery-copy")
        self._running = self._pool.submit(self._copy, job)
        return done

    def drain(self) -> Job | None:
        """Wait for the running job; give it."""
        running, self._running = self._running, None
        return None if running is None else running.result()

    def close(self) -> None:
        """End the thread, whatever became of its job."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _copy(self, job: Job) -> Job:
        started = time.perf_counter()
        data = pa.Table.from_arrays(job.arrays, names=[str(number) for number in range(len(job.arrays))])
        self._send(job, data, 0)
        job.seconds = time.perf_counter() - started
        return job

    def _send(self, job: Job, data: pa.Table, start: int) -> None:
        try:
            with self._session.savepoint():
                self._copy_in(job, data)
            return
        except _REFUSALS as error:
            if data.num_rows == 1:
                said = (error.diag.message_primary or str(error)).strip()
                where = error.diag.column_name or _column_in(error.diag.context, job.names)
                job.refused[job.row(start)] = Reason("refused_by_postgres", where, f"Postgres refused the row: {said}")
                return
        half = data.num_rows // 2
        self._send(job, data.slice(0, half), start)
        self._send(job, data.slice(half), start + half)

    def _copy_in(self, job: Job, data: pa.Table) -> None:
        columns = ", ".join(map(quoted, job.names))
        statement = f"copy {job.table} ({columns}) from stdin (format csv)".encode()
        options = pa_csv.WriteOptions(
            include_header=False, batch_size=_BATCH, quoting_style="none" if job.plain else "needed"
        )
        with self._session.connection.cursor() as cursor, cursor.copy(statement) as copy:
            rows = max(1, data.num_rows * _SLICE // max(data.nbytes, 1))
            for at in range(0, data.num_rows, rows):
                sink = pa.BufferOutputStream()
                pa_csv.write_csv(data.slice(at, rows), sink, options)
                view = memoryview(sink.getvalue())
                for offset in range(0, len(view), _PIECE):
                    copy.write(view[offset : offset + _PIECE])


def _column_in(context: str | None, names: list[str]) -> str | None:
    """Find the column that COPY's error context names: ``COPY t, line 1, column c: ...``."""
    return next((name for name in names if context and f"column {name}:" in context), None)
