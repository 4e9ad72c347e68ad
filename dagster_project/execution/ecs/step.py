"""What runs in a step's task: the same as in a container, but for what it does when it is told to end.

AWS asks a Spot task to end and ends it two minutes later. Dagster's own answer would be the event that the step failed,
which uses up one of its tries, or the run. This process says nothing and ends at once, so that the executor finds a
task that was interrupted and starts the step again; what it had written is as after any kill: whole, or not there.

``python -m dagster_project.execution.ecs.step`` takes the arguments of ``dagster api execute_step``.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

ENDED = 128 + signal.SIGTERM


def main(arguments: list[str]) -> None:
    """Carry out one step; end without a word to Dagster when asked to."""
    from dagster._utils import interrupts

    from dagster_project.execution import step

    # Dagster maps SIGTERM to what it does at Ctrl-C, anew at each change of its mind.
    interrupts.setup_interrupt_handlers = lambda: None
    signal.signal(signal.SIGTERM, _end)
    step.main(arguments)


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"SIGTERM: this task is being stopped; the step ends here.\n")
    os._exit(ENDED)


if __name__ == "__main__":
    main(sys.argv[1:])
