"""What is said of a process that died, wherever it ran: its exit code in words, its last lines, what to change.

Who ran it tells the rest: ``docker/diagnosis.py`` and ``ecs/diagnosis.py``.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from dagster_project.execution.compute import Compute, format_size

LINES = 20
_LINE_LENGTH = 400
MEMORY_ADVICE = (
    "What to change: a larger class (`compute: {load: medium}` in the card, or the op's tag bindery/compute), "
    "or one that may grow: {class: small, on_oom: grow}. `bindery doctor compute` proposes limits from history."
)


def out_of_memory(limit: int) -> str:
    """Say that the kernel ended it."""
    return f"It ran out of memory: the kernel ended it at its limit of {format_size(limit)}."


def exit_words(code: int) -> str:
    """Say in words what an exit code means; the step had not reported its end."""
    if code > 128:
        number = code - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"It was ended from outside by {name} (exit code {code})."
    return f"It ended with exit code {code} without having reported the end of its step."


def last_lines(log: Sequence[str]) -> list[str]:
    """Give the last lines as a block under a heading."""
    if not log:
        return ["It printed nothing."]
    return ["Its last lines:", *(f"  {line[:_LINE_LENGTH]}" for line in log[-LINES:])]


def lacks_program(compute: Compute) -> str:
    """Say that the image can't run what it was asked to."""
    return f"What to change: the image {compute.image or 'of Dagster'} lacks the program, or can't be run here."
