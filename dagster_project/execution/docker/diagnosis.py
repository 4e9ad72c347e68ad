"""Why a container ended, in words for the event log: exit code, memory, its last lines, and what to change.

Knows what the engine tells of a container; asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_project.execution.compute import Compute, format_size
from dagster_project.execution.diagnosis import MEMORY_ADVICE, exit_words, lacks_program, last_lines, out_of_memory


@dataclass(frozen=True, slots=True)
class Death:
    """How a container ended."""

    exit_code: int
    out_of_memory: bool
    error: str = ""
    """The engine's own words, where it couldn't even start."""

    @property
    def good(self) -> bool:
        """Whether it ended by itself without an error."""
        return self.exit_code == 0 and not self.out_of_memory and not self.error


def death_of(state: Mapping[str, Any]) -> Death:
    """Read how a container ended from ``State`` of its inspection."""
    return Death(int(state.get("ExitCode") or 0), bool(state.get("OOMKilled")), str(state.get("Error") or "").strip())


def explain(death: Death, compute: Compute, peak: int | None, log: Sequence[str], container: str) -> str:
    """Say what happened and what to change.

    Args:
        death: How it ended.
        compute: What the step had.
        peak: Most memory it was seen to use, in bytes, where it is known.
        log: Its last lines.
        container: Name of the container.
    """
    parts = [f"{_what(death, compute)} Container {container}, compute class {compute}"]
    # The kernel ends a container at its limit, so that is what it used, whatever was last measured.
    used = compute.memory if death.out_of_memory else peak
    parts[0] += f", peak memory {format_size(used)}." if used else "."
    if advice := _advice(death, compute):
        parts.append(advice)
    return "\n".join([*parts, *last_lines(log)])


def explain_run(death: Death, log: Sequence[str], container: str) -> str:
    """Say why a run's container ended before its run had started."""
    first = f"Its container {container} ended before the run had started, with exit code {death.exit_code}"
    first += f": {death.error}." if death.error else (", out of memory." if death.out_of_memory else ".")
    return "\n".join([first, *last_lines(log)])


def _what(death: Death, compute: Compute) -> str:
    if death.error:
        return f"The engine couldn't start it: {death.error}."
    return out_of_memory(compute.memory) if death.out_of_memory else exit_words(death.exit_code)


def _advice(death: Death, compute: Compute) -> str:
    if death.out_of_memory:
        return MEMORY_ADVICE
    if death.exit_code == 137:
        return (
            "What to change: nothing in the step. Somebody or something sent SIGKILL: `docker kill`, the host's own "
            "memory running out (dmesg shows it), or the engine being restarted."
        )
    if death.exit_code in {125, 126, 127} or death.error:
        return lacks_program(compute)
    return ""
