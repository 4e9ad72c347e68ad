"""What runs in a step's container: Dagster's own command for one step, and after it a note of what the step used.

``python -m dagster_project.execution.step`` takes the arguments of ``dagster api execute_step``.
"""

from __future__ import annotations

import base64
import resource
import sys
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster._grpc.types import ExecuteStepArgs

USAGE = "Resources used by the step"
"""Start of the event that `bindery doctor compute` reads."""
_KIB = 1024


def main(arguments: list[str]) -> None:
    """Carry out one step, then report its memory and CPU."""
    from dagster._cli.api import execute_step_command

    execute_step_command.main(arguments, standalone_mode=False)
    report_usage(arguments)


def report_usage(arguments: list[str]) -> None:
    """Write what this process and its children used into the event log, as metadata of an engine event."""
    from dagster import DagsterInstance, MetadataValue
    from dagster._core.events import EngineEventData

    from dagster_project.settings import get_settings

    args = decode(arguments[-1])
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    # The children's value is that of the largest one, and never less than this process had when it forked. So it counts
    # where a large program is started: in the image of dbt, and nowhere else.
    peak = (own.ru_maxrss + (children.ru_maxrss if get_settings().dbt_executable else 0)) * _KIB
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    keys = args.step_keys_to_execute or []
    with DagsterInstance.from_ref(args.instance_ref) if args.instance_ref else DagsterInstance.get() as instance:
        run = instance.get_run_by_id(args.run_id)
        instance.report_engine_event(
            f"{USAGE}: {peak / 2**20:.0f} MiB at its peak, {seconds:.1f} s of CPU.",
            run,
            EngineEventData(
                {"peak_memory_bytes": MetadataValue.int(peak), "cpu_seconds": MetadataValue.float(seconds)}
            ),
            step_key=keys[0] if keys else None,
        )


def decode(compressed: str) -> ExecuteStepArgs:
    """Read the arguments as Dagster packs them for a command line."""
    from dagster._grpc.types import ExecuteStepArgs
    from dagster._serdes import deserialize_value

    return deserialize_value(zlib.decompress(base64.b64decode(compressed)).decode(), ExecuteStepArgs)


if __name__ == "__main__":
    main(sys.argv[1:])
