"""What steps really used, from the event log, and the limits that follow: more where it ran out, less where it idled.

Every step in a container writes down its peak memory and CPU (execution/step.py); steps on a laptop don't.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.execution.compute import (
    COMPUTE_TAG,
    GROWTH,
    LEAST_MEMORY,
    MIB,
    Compute,
    format_size,
    larger,
    requested,
)

if TYPE_CHECKING:
    from dagster import DagsterInstance, JobDefinition

RUNS = 200
"""Runs looked at, the newest first."""
LEAST_RUNS = 5
"""Fewer say too little to take something away."""
HEADROOM = 1.3
"""Limit over the highest peak that was seen: tables grow, and the kernel ends what goes over."""
STEP = 128 * MIB
"""Limits are whole multiples of this."""
WORTH = 256 * MIB
"""A smaller gain isn't worth a line."""
OUT_OF_MEMORY = "ran out of memory"
"""What a step's failure says where the kernel ended it (execution/docker/diagnosis.py)."""


@dataclass(slots=True)
class History:
    """What one step used, run by run."""

    peaks: list[int] = field(default_factory=list)
    """Bytes."""
    cpu: list[float] = field(default_factory=list)
    """Seconds of processor."""
    out_of_memory: int = 0
    """How often the kernel ended it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a step has, what it used, and what it should have."""

    step: str
    now: Compute
    runs: int
    p95_peak: int
    max_peak: int
    p95_cpu: float
    out_of_memory: int
    wanted: Mapping[str, str] | None
    """Class and memory as a card says them; None where it may stay."""
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Give it for machines."""
        return {
            "step": self.step,
            "now": {"class": self.now.name, "cpu": self.now.cpu, "memory": self.now.memory},
            "runs": self.runs,
            "peak_p95": self.p95_peak,
            "peak_max": self.max_peak,
            "cpu_seconds_p95": round(self.p95_cpu, 1),
            "out_of_memory": self.out_of_memory,
            "proposal": dict(self.wanted) if self.wanted else None,
            "reason": self.reason,
        }


def history(instance: DagsterInstance, runs: int = RUNS) -> dict[str, History]:
    """Read what steps used in the newest runs: step -> its history."""
    from dagster import DagsterEventType, DagsterRunStatus, RunsFilter

    kinds = {DagsterEventType.ENGINE_EVENT, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY}
    ended = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
    found: dict[str, History] = {}
    for run in instance.get_runs(RunsFilter(statuses=ended), limit=runs):
        for record in instance.get_records_for_run(run.run_id, of_type=kinds).records:
            event = record.event_log_entry.dagster_event
            if event is not None and event.step_key is not None:
                _take(found.setdefault(event.step_key, History()), event)
    return {step: each for step, each in found.items() if each.peaks or each.out_of_memory}


def _take(into: History, event: Any) -> None:
    from dagster_project.execution.step import USAGE

    if event.is_engine_event:
        if not (event.message or "").startswith(USAGE):
            return
        values = {name: value.value for name, value in event.engine_event_data.metadata.items()}
        into.peaks.append(int(values["peak_memory_bytes"]))
        into.cpu.append(float(values["cpu_seconds"]))
        return
    data = event.step_failure_data if event.is_step_failure else event.step_retry_data
    said = f"{event.message} {data.error.to_string() if data.error is not None else ''}"
    into.out_of_memory += OUT_OF_MEMORY in said


def propose(step: str, now: Compute, used: History, known: Mapping[str, Compute]) -> Proposal:
    """Compare what a step has with what it used.

    Args:
        step: Its key.
        now: What its tag asks for today.
        used: What it used.
        known: The classes of this installation.
    """
    most = max(used.peaks, default=0)
    needed = rounded(most * HEADROOM)
    wanted: Mapping[str, str] | None = None
    if used.out_of_memory:
        # Nobody saw how much it wanted: so the whole next class, or twice as much.
        above = larger(now, known)
        wanted = {"class": above.name} if above else {"class": now.name, "memory": _size(2 * now.memory)}
        reason = f"ran out of memory {used.out_of_memory} times"
    elif needed > now.memory:
        wanted = fitting(now, needed, known)
        reason = f"its peak is {most / now.memory:.0%} of the limit, with too little to spare"
    elif len(used.peaks) < LEAST_RUNS:
        reason = f"fewer than {LEAST_RUNS} runs tell too little"
    elif now.memory - needed >= WORTH and needed <= now.memory / 2:
        wanted, reason = fitting(now, needed, known), f"uses {most / now.memory:.0%} of its memory at most"
    else:
        reason = "fits"
    if wanted is not None and wanted == stated(now, known):
        wanted, reason = None, "fits"
    return Proposal(
        *(step, now, len(used.peaks), p95(used.peaks), most, p95(used.cpu)),
        *(used.out_of_memory, wanted, reason),
    )


def fitting(now: Compute, needed: int, known: Mapping[str, Compute]) -> dict[str, str]:
    """Give the smallest class with enough memory; below half of it by name, with the memory said."""
    if now.gpu:
        return {"class": now.name, "memory": _size(needed)}
    ladder = [known[name] for name in GROWTH if name in known]
    chosen = next((each for each in ladder if each.memory >= needed), None)
    if chosen is None:
        return {"class": ladder[-1].name if ladder else now.name, "memory": _size(needed)}
    return {"class": chosen.name} if needed > chosen.memory / 2 else {"class": chosen.name, "memory": _size(needed)}


def stated(now: Compute, known: Mapping[str, Compute]) -> dict[str, str]:
    """Give what a step has as a card would say it."""
    same = now.name in known and known[now.name].memory == now.memory
    return {"class": now.name} if same else {"class": now.name, "memory": _size(now.memory)}


def rounded(size: float) -> int:
    """Round up to a limit that one would write."""
    return max(math.ceil(size / STEP) * STEP, LEAST_MEMORY)


def _size(size: int) -> str:
    return f"{math.ceil(size / MIB)}MiB"


def p95(values: Iterable[Any]) -> Any:
    """Give the value that 95 of 100 don't exceed, 0 of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(0.95 * len(ordered)) - 1, 0)] if ordered else 0


def proposals(used: Mapping[str, History], job: JobDefinition, known: Mapping[str, Compute]) -> list[Proposal]:
    """Propose for every step of the job that has a history."""
    tags = {node.name: node.tags for node in job.nodes}
    return [propose(step, requested(tags[step], known), used[step], known) for step in sorted(used) if step in tags]


def written(wanted: Mapping[str, str]) -> str:
    """Write class and memory as a card does."""
    if set(wanted) == {"class"}:
        return wanted["class"]
    return "{" + ", ".join(f"{name}: {value}" for name, value in wanted.items()) + "}"


def merged(tag: str, wanted: Mapping[str, str] | None) -> dict[str, str]:
    """Put a proposal into what a step's tag says; CPU, image and what to do out of memory stay."""
    said: dict[str, str] = json.loads(tag) if tag.startswith("{") else {"class": tag}
    return said if wanted is None else {**{key: said[key] for key in said if key != "memory"}, **wanted}


def card_line(path: Path, wanted: Mapping[str, str]) -> str:
    """Say which line of a card to change, and to what.

    Args:
        path: The card's file.
        wanted: ``fetch`` and ``load`` as they should be, written as a card does.
    """
    text = f"compute: {{{', '.join(f'{step}: {value}' for step, value in wanted.items())}}}"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if re.match(r"\s*compute\s*:", line):
            return f"{path}:{number}: {text}"
    return f"{path}: add under attributes: {text}"


def tag_line(job: JobDefinition, step: str, wanted: Mapping[str, str]) -> str:
    """Say which line of Python gives a step its tag, and what it should be."""
    (node,) = (node for node in job.nodes if node.name == step)
    function = node.definition.compute_fn.decorated_fn  # type: ignore[attr-defined]
    path, first = Path(function.__code__.co_filename), function.__code__.co_firstlineno
    said = merged(node.tags[COMPUTE_TAG], wanted) if COMPUTE_TAG in node.tags else dict(wanted)
    value = f'"{said["class"]}"' if set(said) == {"class"} else f"'{json.dumps(said)}'"
    lines = path.read_text().splitlines()
    for number in range(first, min(first + 60, len(lines)) + 1):
        line = lines[number - 1]
        changed = re.sub(rf"""((?:COMPUTE_TAG|["']{COMPUTE_TAG}["'])\s*:\s*)(["']).*?\2""", rf"\g<1>{value}", line)
        if "op_tags" in line and changed != line:
            return f"{path}:{number}: {changed.strip()}"
    return f"{path}:{first}: give the op the tag op_tags={{{COMPUTE_TAG!r}: {value}}}"


def summary(proposal: Proposal) -> list[str]:
    """Give the cells of a table's row."""
    peaks = [format_size(each) if each else "-" for each in (proposal.p95_peak, proposal.max_peak)]
    wanted = "keep" if proposal.wanted is None else written(proposal.wanted)
    return [
        *(proposal.step, str(proposal.now), str(proposal.runs), *peaks),
        *(f"{proposal.p95_cpu:.1f} s", wanted, proposal.reason),
    ]
