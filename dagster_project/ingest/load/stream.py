"""One stream's load: blocks in, rows in the table or in quarantine, and the count of everything.

Puts the parts together: names and types of columns (``columns``), the proof that values fit (``proof``), the way into
the table (``target``, ``copy``), what doesn't fit (``quarantine``). The transaction and its bookkeeping are ``run``'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagster_project.ingest.chunk import Kind
from dagster_project.ingest.errors import DataRefusedError
from dagster_project.ingest.load import merge
from dagster_project.ingest.load.bounds import check_nulls, check_rows
from dagster_project.ingest.load.columns import Columns, ColumnState
from dagster_project.ingest.load.convert import declared_type
from dagster_project.ingest.load.copy import Copier, Job
from dagster_project.ingest.load.explain import nearly, told
from dagster_project.ingest.load.keys import KeyWatch
from dagster_project.ingest.load.proof import Proven, prove, without_words
from dagster_project.ingest.load.quarantine import Quarantine, Reason, shortened
from dagster_project.ingest.load.report import StreamLoad
from dagster_project.ingest.load.schema import comment, read_table
from dagster_project.ingest.load.session import Session
from dagster_project.ingest.load.target import Target
from dagster_project.ingest.load.types import TYPES, UNKNOWN, infer, join
from dagster_project.ingest.load.views import CannotWidenError

if TYPE_CHECKING:
    from dagster_project.ingest.cards.base import SourceCard, StreamCard
    from dagster_project.ingest.load.blocks import Block

_TEXTUAL: Final = ("text", "jsonb")

Typed = tuple[ColumnState, Proven]
"""A column and its proven values."""


class StreamLoader:
    """Loads one stream within a session's transaction."""

    def __init__(
        self,
        session: Session,
        source: SourceCard,
        card: StreamCard,
        load_id: int,
        tell: Callable[[str], None],
    ) -> None:
        self.session = session
        self.source = source
        self.card = card
        self.load_id = load_id
        name = source.table(card.name)
        self.report = StreamLoad(f"raw.{name}", stages={"read": 0.0, "prove": 0.0, "copy": 0.0, "merge": 0.0})
        self.table = read_table(session, name)
        self.columns = Columns(card, self.table)
        self.columns.load(session, source.source)
        self.target = Target(session, card, self.table, self.report, tell)
        self.quarantine = Quarantine(session, load_id, source.source, card.name)
        self._copier = Copier(session)
        self._copied = 0
        self._watch: KeyWatch | None = None
        self._known = frozenset(self.columns.by_source)
        required = [field for field, rules in card.columns.items() if rules.required]
        self._needed = dict.fromkeys([*card.primary_key, *required])
        self.table_is_gone = self.table.oid is None and not self.columns.open
        """Whether earlier loads made the table and somebody dropped it."""
        self._delete_missing = False
        self._keys_unknown = False
        self._kept_made = False

    # -- the course of a load

    def prepare(self, *, replace: bool, delete_loads: list[int], complete: bool) -> None:
        """Get the table ready; make it where the card says all about it."""
        self.target.prepare(self.columns, replace=replace, delete_loads=delete_loads)
        self._watch = KeyWatch(len(self.card.primary_key)) if self.target.keyed else None
        self._delete_missing = (
            complete and self.target.staged and self.card.write == "merge" and self.card.missing == "delete"
        )

    def load(self, blocks: Iterable[Block], on_block: Callable[[Block], None] = lambda _: None) -> None:
        """Take all blocks."""
        try:
            for block in blocks:
                self._block(block)
                on_block(block)
            self.drain()
        finally:
            self._copier.close()

    def drain(self) -> None:
        """Wait until everything sent has arrived: the connection is free afterwards."""
        started = time.perf_counter()
        job = self._copier.drain()
        self.report.stages["copy"] += time.perf_counter() - started
        if job is not None:
            self._arrived(job)

    def finish(self, *, more: bool = False) -> StreamLoad:
        """Merge, settle, write quarantine and schema map, hold the result against the card's bounds.

        Args:
            more: Whether further loads of the stream follow at once.

        Raises:
            DataRefusedError: A bound of ``expect`` is broken.
        """
        started = time.perf_counter()
        report = self.report
        self._define()
        complete = self._delete_missing and self._may_delete()
        repeated = None if self._watch is None else self._watch.repeated()
        self.target.finish(self.columns, self._copied, repeated, complete=complete)
        report.stages["merge"] += time.perf_counter() - started
        self.quarantine.write()
        report.quarantined = self.quarantine.count
        report.codes = dict(self.quarantine.codes)
        self.columns.write(self.session, self.source.source, self.load_id)
        self._describe()
        self.quarantine.check(self.card.expect, report.rows_read, report.table)
        check_rows(self.session, self.card, self.table, report, more=more)
        check_nulls(self.card, self.columns, self._copied, report.table)
        return report

    # -- blocks

    def _block(self, block: Block) -> None:
        report = self.report
        report.rows_read += block.rows + len(block.refused)
        report.replaced_nul += block.replaced_nul
        report.left_out += block.left_out
        if block.renamed_twice:
            report.warnings.append(
                f"{block.renamed_twice:,} rows have a value under a former and under today's name of a field "
                "(`renames`): today's was taken"
            )
        if block.refused:
            self._keys_unknown = True
            self.quarantine.refuse_lines(block.refused)
        if block.rows:
            started, waited = time.perf_counter(), report.stages["copy"]
            job = self._proven(block)
            report.stages["prove"] += time.perf_counter() - started - (report.stages["copy"] - waited)
            if job is not None:
                self._submit(job)
        if self.quarantine.due:
            self.drain()
            self.quarantine.write()

    def _proven(self, block: Block) -> Job | None:
        """Decide types, prove values, send what doesn't fit to the quarantine."""
        reasons: dict[int, Reason] = {}
        typed, blank = self._typed(block, reasons)
        # Rows without any value are rows all the same.
        columns = typed or blank
        states, proofs = [state for state, _ in columns], [proof for _, proof in columns]
        if not states:
            for row in range(block.rows):
                reasons.setdefault(row, Reason("empty_row", None, "the record has no fields"))
        if reasons and self._delete_missing:
            self._note_keys(sorted(reasons), states, proofs)
        kept = self._refuse(block, reasons)
        if kept is not None and len(kept) == 0:
            return None
        for state, _ in (*typed, *blank):
            state.seen = True
        if any(not state.in_table for state in states) or self._unstaged(states):
            self.drain()
            self.target.ensure(self._in_order(states))
        arrays = [proof.values if kept is None else proof.values.take(kept) for proof in proofs]
        rows = block.rows if kept is None else len(kept)
        for state, values in zip(states, arrays, strict=True):
            state.rows += rows
            state.nulls += values.null_count
        if self._watch is not None:
            there = {state.source_name: values for state, values in zip(states, arrays, strict=True)}
            self._watch.see(
                [there[name] for name in self.card.primary_key],
                [self.columns.resolve(name).data_type for name in self.card.primary_key],
            )
        plain = all(state.data_type in TYPES and state.data_type not in _TEXTUAL for state in states)
        return Job(block, self.target.destination, [s.name for s in states], arrays, rows, plain, kept)

    def _typed(self, block: Block, reasons: dict[int, Reason]) -> tuple[list[Typed], list[Typed]]:
        """Decide and prove the type of each field; give those with a type, and those without any value.

        Fields without which a row is refused come first: a row that is refused for them has no say in the others' names
        and types.
        """
        typed: list[Typed] = []
        blank: list[Typed] = []
        missing: dict[int, Reason] = {}
        fields = sorted(block.columns, key=lambda field: field not in self._needed)
        first = len(self._needed.keys() & block.columns.keys())
        for number, field in enumerate(fields):
            if number == first:
                missing = self._missing(block, typed)
            column = block.columns[field]
            state = self.columns.resolve(field)
            if not self._wanted(state, block, reasons):
                continue
            values = without_words(column.values, column.kind, list(state.words))
            there = values.null_count < block.rows
            if number >= first and not state.declared:
                values = _without(values, {*missing, *reasons})
            if there and values.null_count == block.rows and not state.in_table and not state.declared:
                continue
            proven = self._fitting(state, values, column.kind, reasons, block)
            if state.data_type == UNKNOWN:
                blank.append((state, proven))
                continue
            self.report.emptied += proven.emptied
            typed.append((state, proven))
        if first == len(fields):
            missing = self._missing(block, typed)
        for row, reason in missing.items():
            reasons.setdefault(row, reason)
        return typed, blank

    def _unstaged(self, states: list[ColumnState]) -> bool:
        return self.target.staged and not self.target.has_staged(states)

    def _in_order(self, states: list[ColumnState]) -> list[ColumnState]:
        """Put the columns of a new table into the card's order, the others behind as they came."""
        order = {name: at for at, name in enumerate([*self.card.primary_key, *self.card.columns])}
        return sorted(states, key=lambda state: order.get(state.source_name, len(order)))

    def _wanted(self, state: ColumnState, block: Block, reasons: dict[int, Reason]) -> bool:
        """Apply the contract's word on columns that the table doesn't have."""
        contract = self.card.contract.columns
        if self.columns.open or contract == "evolve" or state.source_name in self._known or state.rules is not None:
            return True
        values = block.columns[state.source_name].values
        if values.null_count == block.rows:
            return False
        if contract == "freeze":
            raise DataRefusedError(
                f"{self.report.table}: field {state.source_name!r} is new ({block.origins[0].name}), and "
                "`contract.columns` is freeze: nothing was loaded. Name it under `columns` or `ignore`, or let it "
                "evolve"
            )
        if contract == "quarantine":
            message = (
                f"field {state.source_name!r} is not among the table's columns, and `contract.columns` is quarantine"
            )
            for row in pc.indices_nonzero(values.is_valid()).to_pylist():
                reasons.setdefault(row, Reason("contract_column", state.source_name, message))
        elif state.source_name not in self.report.dropped:
            self.report.dropped.append(state.source_name)
        return False

    def _fitting(
        self, state: ColumnState, values: pa.Array, kind: Kind, reasons: dict[int, Reason], block: Block
    ) -> Proven:
        """Prove a column; where values don't fit, widen, refuse the rows, or fail, as the contract says."""
        if state.data_type == UNKNOWN and not state.declared:
            found = infer(values, kind)
            if found == UNKNOWN:
                return Proven(values, None)
            if found == "text" and (odd_one := nearly(values, kind)) is not None:
                before, row = odd_one
                self.report.warnings.append(told(block, row, state.name, values[row].as_py(), before))
            self._widen(state, found)
        proven = prove(values, kind, state.data_type, state.declared_rules)
        if proven.good is None:
            return proven
        contract = self.card.contract.types
        if not state.declared and contract == "evolve":
            odd = values.filter(pc.invert(proven.good))
            wider = join(state.data_type, infer(odd, kind))
            if wider == state.data_type:
                wider = "text"
            before = state.data_type
            if self._widen(state, wider):
                if wider == "text":
                    row = pc.indices_nonzero(pc.invert(proven.good))[0].as_py()
                    self.report.warnings.append(told(block, row, state.name, values[row].as_py(), before))
                return self._fitting(state, values, kind, reasons, block)
        if not state.declared and contract == "freeze":
            row = pc.indices_nonzero(pc.invert(proven.good))[0].as_py()
            raise DataRefusedError(
                f"{self.report.table}: {_misfit(state, values[row].as_py())}, and `contract.types` is freeze: "
                "nothing was loaded. State the column's type in the card, or let it evolve"
            )
        for row in pc.indices_nonzero(pc.invert(proven.good)).to_pylist():
            message = _misfit(state, values[row].as_py())
            if state.frozen:
                message = f"{message}; it could not be widened: {state.frozen}"
            reasons.setdefault(row, Reason("type_mismatch", state.name, message))
        return proven

    def _widen(self, state: ColumnState, wider: str) -> bool:
        if state.frozen is not None:
            return False
        if state.in_table:
            self.drain()
        try:
            self.target.widen(state, wider)
        except CannotWidenError as error:
            state.frozen = str(error)
            self.report.warnings.append(f"{state.name} stays {state.data_type}, not {wider}: {error}")
            return False
        return True

    def _missing(self, block: Block, typed: list[Typed]) -> dict[int, Reason]:
        """Find rows without a value in a key or in a required column."""
        reasons: dict[int, Reason] = {}
        key = set(self.card.primary_key)
        there = {state.source_name: proof.values for state, proof in typed}
        for name in self._needed:
            values = there.get(name)
            if values is not None and not values.null_count:
                continue
            state = self.columns.resolve(name)
            code, what = ("null_key", "primary_key") if name in key else ("required", "required")
            said = "has no value" if values is not None else "is not among the fields"
            reason = Reason(code, state.name, f"{name!r} {said}, and the card says `{what}`")
            rows = range(block.rows) if values is None else pc.indices_nonzero(values.is_null()).to_pylist()
            for row in rows:
                reasons.setdefault(row, reason)
        return reasons

    def _refuse(self, block: Block, reasons: dict[int, Reason]) -> pa.Array | None:
        """Send refused rows to the quarantine; give the rows that are left (None: all)."""
        if not reasons:
            return None
        self.quarantine.refuse_rows(block, reasons)
        good = [True] * block.rows
        for row in reasons:
            good[row] = False
        return pc.indices_nonzero(pa.array(good)).cast(pa.int64())

    # -- COPY

    def _submit(self, job: Job) -> None:
        started = time.perf_counter()
        before = self._copier.submit(job)
        self.report.stages["copy"] += time.perf_counter() - started
        if before is not None:
            self._arrived(before)

    def _arrived(self, job: Job) -> None:
        self._copied += job.rows - len(job.refused)
        if job.refused:
            self.quarantine.refuse_rows(job.block, job.refused)
            self._keys_unknown = True

    # -- the end

    def _define(self) -> None:
        """Make what the rows didn't: declared columns, and columns in which no value was seen."""
        for field in [*self.card.primary_key, *self.card.columns]:
            state = self.columns.resolve(field)
            if declared_type(state.rules) is not None and not state.in_table:
                state.seen = True
        states = [state for state in self.columns.by_source.values() if state.seen and not state.in_table]
        if states:
            staged, self.target.staged = self.target.staged, False
            self.target.ensure(self._in_order(states))
            self.target.staged = staged

    def _note_keys(self, rows: list[int], states: list[ColumnState], proofs: list[Proven]) -> None:
        """Remember the keys of refused rows: the source still has them, so that nothing is deleted for them."""
        there = {state.source_name: proof for state, proof in zip(states, proofs, strict=True)}
        indices = pa.array(rows, pa.int64())
        found: list[list[str | None]] = []
        for name in self.card.primary_key:
            proof = there.get(name)
            if proof is None:
                self._keys_unknown = True
                return
            texts = proof.values if proof.good is None else pc.if_else(proof.good, proof.values, None)
            found.append(texts.take(indices).to_pylist())
        whole = [tuple(values) for values in zip(*found, strict=True) if None not in values]
        self._keys_unknown = self._keys_unknown or len(whole) < len(rows)
        self.drain()
        self._make_kept()
        merge.note_kept(self.session, whole)

    def _make_kept(self) -> None:
        if not self._kept_made:
            merge.make_kept(self.session, self.table, [s.name for s in self.columns.fields(self.card.primary_key)])
            self._kept_made = True

    def _may_delete(self) -> bool:
        """Tell whether what is missing may be deleted: never when rows couldn't be read or nothing came at all."""
        if self._keys_unknown:
            why = "some rows were refused without a readable key"
        elif not self._copied:
            why = "the fetch gave no row at all"
        else:
            self._make_kept()
            return True
        self.report.warnings.append(f"nothing was deleted (`missing: delete`): {why}")
        return False

    def _describe(self) -> None:
        if self.table.oid is None:
            return
        wanted = {"": self.card.description} if self.card.description else {}
        for state in self.columns.by_source.values():
            if state.rules is not None and state.rules.description:
                wanted[state.name] = state.rules.description
        comment(self.session, self.table, wanted)


def _without(values: pa.Array, rows: set[int]) -> pa.Array:
    """Make the values of some rows NULL."""
    if not rows:
        return values
    mask = np.zeros(len(values), bool)
    mask[list(rows)] = True
    return pc.if_else(pa.array(mask), None, values)


def _misfit(state: ColumnState, value: str | None) -> str:
    promise = "declared" if state.declared else "so far"
    return f"{shortened(value)!r} is no {state.data_type}, as {state.name} is {promise}"
