"""The load's connection: one transaction with its settings, savepoints, locks, and Postgres' errors in our words.

What is done in the transaction is the other modules' business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors

from dagster_project.ingest.errors import DatabaseError, DataRefusedError, IngestError, TransientDatabaseError
from dagster_project.ingest.landing.log import LOAD_LOCK

if TYPE_CHECKING:
    from dagster_project.ingest.runtime import Runtime

LOCK_TIMEOUT = "10s"
"""How long one statement waits for a table that somebody else uses; the whole load is tried again after it."""
WAIT = 3600.0
"""Seconds that a load waits for another one of the same source."""

_SETTINGS = (
    # Casts and texts mean the same whatever the role's own settings are.
    "set local datestyle = 'ISO, YMD'",
    "set local timezone = 'UTC'",
    # Definitions of views come out fully qualified, and temporary tables never hide anything.
    "set local search_path = pg_catalog, public, pg_temp",
    "set local extra_float_digits = 1",
    "set local statement_timeout = 0",
    "set local idle_in_transaction_session_timeout = 0",
    f"set local lock_timeout = '{LOCK_TIMEOUT}'",
    # A million narrow keys are joined and sorted in memory; more goes to disk, as always.
    "set local work_mem = '64MB'",
    "set local maintenance_work_mem = '128MB'",
)


class Session:
    """One connection within one transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._savepoints = 0

    def begin(self) -> None:
        """Give the transaction its settings."""
        self.run("; ".join(_SETTINGS))

    def run(self, statement: str, values: Any = None) -> psycopg.Cursor[Any]:
        """Execute one statement; identifiers in it are quoted by the caller, values are parameters."""
        return self.connection.execute(statement.encode(), values)

    def one(self, statement: str, values: Any = None) -> Any:
        """Give the first column of the first row, or None."""
        row = self.run(statement, values).fetchone()
        return None if row is None else row[0]

    def all(self, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
        """Give all rows."""
        return self.run(statement, values).fetchall()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what happens inside when it raises."""
        self._savepoints += 1
        name = f"bindery_{self._savepoints}"
        self.run(f"savepoint {name}")
        try:
            yield
        except BaseException:
            if not self.connection.closed:
                self.run(f"rollback to savepoint {name}; release savepoint {name}")
            raise
        self.run(f"release savepoint {name}")


@contextmanager
def open_session(runtime: Runtime) -> Iterator[Session]:
    """Open a connection with a transaction that ends with the block: commit it, or it is undone."""
    connection = runtime.connect()
    try:
        session = Session(connection)
        session.begin()
        yield session
    finally:
        connection.close()


def wait_for_turn(session: Session, source: str, tell: Callable[[str], None], wait: float = WAIT) -> None:
    """Be the only load of a source until the transaction ends.

    Raises:
        TransientDatabaseError: Another load still ran after ``wait`` seconds.
    """
    deadline = time.monotonic() + wait
    told = False
    while not session.one(f"select pg_try_advisory_xact_lock({LOAD_LOCK})", [source]):
        if time.monotonic() >= deadline:
            raise TransientDatabaseError(
                f"another load of {source!r} is still under way after {wait:g} s: wait for it or stop it"
            )
        if not told:
            tell(f"waiting for another load of {source!r}")
            told = True
        time.sleep(0.1)


def may_pass(error: psycopg.Error) -> bool:
    """Tell whether trying the whole load again can help: somebody else held a lock."""
    return isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected | errors.SerializationFailure)


def translated(error: psycopg.Error, source: str) -> IngestError:
    """Put an error of Postgres into words that say who has to act."""
    said = " ".join(str(error).split())
    if may_pass(error):
        return TransientDatabaseError(
            f"{source}: a table stayed locked by somebody else ({said}). Nothing was loaded; run it again, or end the "
            "session that holds it (select * from pg_stat_activity)"
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return DatabaseError(
            f"{source}: the loader may not do this: {said}. Tables in raw belong to the loader; "
            "`bindery db start` (or the migrations) give the roles their rights again"
        )
    if isinstance(error, errors.UndefinedTable) and "bindery." in said:
        return DatabaseError(f"{source}: the warehouse is not prepared: {said}. Run `bindery db start`")
    if isinstance(error, errors.DiskFull):
        return TransientDatabaseError(f"{source}: Postgres' disk is full: {said}. Nothing was loaded")
    if isinstance(error, errors.TooManyColumns):
        return DataRefusedError(
            f"{source}: a table of Postgres has at most 1,600 columns ({said}). Nothing was loaded: name fields under "
            "`ignore` in the card; JSON's may come as one document (`records` above them)"
        )
    if (error.sqlstate or "").startswith("54"):
        return DataRefusedError(f"{source}: more than Postgres takes: {said}. Nothing was loaded")
    if isinstance(error, psycopg.OperationalError):
        return TransientDatabaseError(
            f"{source}: the connection to Postgres broke off during the load: {said}. Nothing was loaded; "
            "run it again: what is landed is kept"
        )
    if isinstance(error, errors.IntegrityError | errors.DataError):
        return DataRefusedError(f"{source}: Postgres refused rows of the load as a whole: {said}. Nothing was loaded")
    return DatabaseError(f"{source}: Postgres refused a statement: {said}. Nothing was loaded")
