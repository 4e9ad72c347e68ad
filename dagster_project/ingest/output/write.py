"""Writing out what loads brought: which loads are due, their files, the manifest, and the note that it is done.

A stream that appends gives each load's rows; one that merges or replaces gives the whole table as it is after the
newest load, since older rows may have changed. The names of a load's files depend on nothing but the load, so that
whoever writes them again, after a crash, overwrites the same bytes. The manifest comes after the files and the pointer
``_latest.json`` after the manifest: what a manifest names is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dagster_project.ingest.cards.output import loop
from dagster_project.ingest.errors import CardError, DatabaseError, TransientDatabaseError
from dagster_project.ingest.runtime import Progress

if TYPE_CHECKING:
    import psycopg

    from dagster_project.ingest.cards.base import StreamCard
    from dagster_project.ingest.cards.file import FileSourceCard
    from dagster_project.ingest.output.rows import OutColumn
    from dagster_project.ingest.output.target import Target
    from dagster_project.ingest.runtime import Runtime

FORMAT: Final = 1
PART_ROWS: Final = 2_000_000
"""Rows of a file, about."""
GROUP_ROWS: Final = 100_000
"""Rows that are compressed together: in memory at once."""
_DUE = (
    "select s.load_id, l.kind, l.finished_at at time zone 'UTC', s.inserted + s.updated + s.deleted, s.quarantined, "
    "l.code from bindery.load_streams s join bindery.loads l using (load_id) where (s.source, s.stream) = (%s, %s) "
    "and l.status = 'committed' and not exists (select from bindery.outputs o where (o.source, o.stream, o.load_id) = "
    "(s.source, s.stream, s.load_id)) group by s.load_id, l.load_id, s.inserted, s.updated, s.deleted, s.quarantined "
    "order by s.load_id"
)
_SOURCES = (
    "select o.landing_id, o.origin, o.uri, o.sha256, o.size, o.meta from bindery.load_batches t join bindery.batches b "
    "using (batch_id) join bindery.landed o using (batch_id) where t.load_id = %s and b.stream = %s "
    "and o.status = 'landed' order by o.landing_id"
)
_REPLACED = (
    "select distinct older.load_id from bindery.load_batches this join bindery.load_batches older using (batch_id) "
    "join bindery.batches b using (batch_id) where this.load_id = %s and older.load_id < this.load_id "
    "and b.stream = %s order by 1"
)
_NOTE = (
    "insert into bindery.outputs (source, stream, load_id, manifest, rows, bytes) values (%s, %s, %s, %s, %s, %s) "
    "on conflict (source, stream, load_id) do update set manifest = excluded.manifest, rows = excluded.rows, "
    "bytes = excluded.bytes, written_at = now()"
)


@dataclass(slots=True)
class Written:
    """What was written of one load."""

    load_id: int
    manifest: str
    rows: int
    bytes: int
    files: int


@dataclass(slots=True)
class OutputReport:
    """What was written of each stream."""

    streams: dict[str, list[Written]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Load:
    load_id: int
    kind: str
    finished: Any
    changed: int
    quarantined: int
    code: str | None


def write_outputs(card: FileSourceCard, runtime: Runtime, streams: Sequence[str] | None = None) -> OutputReport:
    """Write out the loads that aren't yet.

    Args:
        card: With an ``output``; without one nothing is done.
        runtime: Connections, references.
        streams: Names of the streams; all by default.

    Raises:
        CardError: The output lies where the source reads.
        LandingError: It can't be written.
        DatabaseError: The database is out of reach or refuses.
    """
    import psycopg

    from dagster_project.ingest.output.target import target_at

    report = OutputReport()
    if card.output is None:
        return report
    refuse_loop(card, runtime)
    target = target_at(runtime.text(card.output.path), runtime.base)
    try:
        for name in streams if streams is not None else [stream.name for stream in card.streams]:
            report.streams[name] = _Stream(card, card.stream(name), runtime, target).write()
    except psycopg.Error as error:
        kind = TransientDatabaseError if isinstance(error, psycopg.OperationalError) else DatabaseError
        raise kind(f"output of {card.source!r}: {str(error).strip() or type(error).__name__}") from error
    return report


def refuse_loop(card: FileSourceCard, runtime: Runtime) -> None:
    """Refuse a card whose output would be its input, now that settings are known.

    Raises:
        CardError: It would.
    """
    if card.output is None:
        return
    tables = [card.table(stream.name) for stream in card.streams]
    if said := loop(runtime.text(card.path), runtime.text(card.output.path), tables, runtime.base):
        raise CardError(f"source {card.source!r}: {said}")


class _Stream:
    """The output of one stream."""

    def __init__(self, card: FileSourceCard, stream: StreamCard, runtime: Runtime, target: Target) -> None:
        self._card = card
        self._stream = stream
        self._runtime = runtime
        self._target = target
        self._table = card.table(stream.name)

    def write(self) -> list[Written]:
        """Write what is due, each load in a transaction of its own."""
        done: list[Written] = []
        while True:
            with self._runtime.connect() as connection:
                # The lock before the snapshot: whoever waited for it must see what the other wrote.
                lock = f"bindery:output:{self._card.source}:{self._stream.name}"
                connection.autocommit = True
                connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [lock])
                connection.autocommit = False
                connection.execute("set transaction isolation level repeatable read")
                written = self._next(connection)
                connection.commit()
            if written is None:
                return done
            if written.files:
                done.append(written)

    def _next(self, connection: psycopg.Connection[Any]) -> Written | None:
        """Write the next load, or none where all are written."""
        names = [self._card.source, self._stream.name]
        due = [_Load(*row) for row in connection.execute(_DUE.encode(), names).fetchall()]
        if not due:
            return None
        whole = self._stream.write != "append"
        load = due[-1] if whole else due[0]
        covered = due[:-1] if whole else []
        changed = any(each.changed for each in due) if whole else load.changed
        written = Written(load.load_id, "", 0, 0, 0)
        if changed:
            written = self._files(connection, load, whole, [each.load_id for each in covered])
        for each in [*covered, load]:
            values = [*names, each.load_id, written.manifest or None, written.rows, written.bytes]
            connection.execute(_NOTE.encode(), values)
        return written

    def _files(self, connection: psycopg.Connection[Any], load: _Load, whole: bool, covered: list[int]) -> Written:
        from dagster_project.ingest.output.rows import columns_of

        where = "true" if whole else f"_load_id = {load.load_id:d}"
        columns = columns_of(connection, self._table, self._hidden(), where)
        folder = self._folder(load)
        files = self._parts(connection, columns, where, folder) if columns else []
        self._runtime.checkpoint("output")
        manifest = self._manifest(connection, load, whole, covered, columns, files)
        body = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"
        name = f"{folder}/_manifest.json"
        self._put(name, body)
        self._runtime.checkpoint("manifest")
        pointer = {"load_id": load.load_id, "manifest": name.removeprefix(f"{self._table}/")}
        self._put(f"{self._table}/_latest.json", json.dumps(pointer, sort_keys=True).encode() + b"\n")
        rows, size = sum(each["rows"] for each in files), sum(each["bytes"] for each in files)
        told = f"{len(files)} files of load {load.load_id} in {self._target.url(folder)}"
        self._runtime.progress(Progress(self._card.source, "output", self._stream.name, told, rows=rows, bytes=size))
        return Written(load.load_id, self._target.url(name), rows, size, len(files) + 1)

    def _parts(
        self, connection: psycopg.Connection[Any], columns: list[OutColumn], where: str, folder: str
    ) -> list[dict[str, Any]]:
        """Write the rows into files of some size; a load without rows has one without rows, which has its schema."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from dagster_project.ingest.output.rows import batches

        schema = pa.schema([pa.field(each.name, each.arrow) for each in columns])
        rows = batches(connection, self._table, columns, where)
        files: list[dict[str, Any]] = []
        batch = next(rows, None)
        while batch is not None or not files:
            name = f"part-{len(files):05}.parquet"
            count = 0
            with (
                self._target.sink(f"{folder}/{name}") as sink,
                pq.ParquetWriter(sink, schema, compression="zstd") as writer,
            ):
                held: list[pa.RecordBatch] = []
                while batch is not None and count < PART_ROWS:
                    held.append(batch)
                    count += batch.num_rows
                    batch = next(rows, None)
                    if sum(each.num_rows for each in held) >= GROUP_ROWS:
                        writer.write_table(pa.Table.from_batches(held))
                        held.clear()
                if held:
                    writer.write_table(pa.Table.from_batches(held))
            files.append({"path": name, "rows": count, "bytes": sink.size, "sha256": sink.sha256})
        return files

    def _manifest(
        self,
        connection: psycopg.Connection[Any],
        load: _Load,
        whole: bool,
        covered: list[int],
        columns: list[OutColumn],
        files: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """Say what was written and what it came from. Nothing in it depends on when it was written."""
        replaced: list[int] = []
        if not whole:
            found = connection.execute(_REPLACED.encode(), [load.load_id, self._stream.name]).fetchall()
            replaced = [row[0] for row in found]
        sources: list[dict[str, Any]] = []
        for each in [*covered, load.load_id]:
            for row in connection.execute(_SOURCES.encode(), [each, self._stream.name]).fetchall():
                landing_id, origin, uri, sha256, size, meta = row
                place = f"s3://{meta['bucket']}/{meta['key']}" if "bucket" in meta else origin
                facts = {"landing_id": landing_id, "object": place, "landed": uri, "sha256": sha256, "size": size}
                named = {name: meta[name] for name in ("etag", "version", "modified_at") if name in meta}
                sources.append({**facts, **named, "load_id": each})
        card = self._card.model_dump_json(by_alias=True)
        return {
            "format": FORMAT,
            "source": self._card.source,
            "stream": self._stream.name,
            "table": f"raw.{self._table}",
            "content": "table" if whole else "load",
            "load_id": load.load_id,
            "loads": [*covered, load.load_id],
            "replaces": replaced,
            "loaded_at": f"{load.finished.isoformat()}Z",
            "rows": sum(each["rows"] for each in files),
            "quarantined": load.quarantined,
            "schema": [{"name": each.name, "type": each.kind, "parquet": str(each.arrow)} for each in columns],
            "left_out": self._hidden(),
            "files": files,
            "sources": sources,
            "code": load.code,
            "card": {"version": self._card.card_version, "sha256": hashlib.sha256(card.encode()).hexdigest()},
        }

    def _put(self, name: str, body: bytes) -> None:
        with self._target.sink(name) as sink:
            sink.write(body)

    def _folder(self, load: _Load) -> str:
        assert self._card.output is not None
        day = f"day={load.finished:%Y-%m-%d}/" if self._card.output.partition == "day" else ""
        return f"{self._table}/{day}load={load.load_id}"

    def _hidden(self) -> list[str]:
        assert self._card.output is not None
        if self._card.output.pii == "keep":
            return []
        return sorted(column.name or name for name, column in self._stream.columns.items() if column.pii)
