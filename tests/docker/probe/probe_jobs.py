"""Jobs made to be broken by tests: three ops that write down when they begin and end, and one that is hungry."""

# No postponed annotations here: Dagster reads those of ops as they are.
import time
from pathlib import Path

import dagster as dg

from dagster_project.execution.docker.executor import docker_steps

IMAGE = {"bindery/image": "bindery/dagster:test-probe"}
FOLDER = Path("/data/landing/probe")
ONCE_MORE = dg.RetryPolicy(max_retries=1)


def note(context: dg.OpExecutionContext, what: str) -> None:
    """Append a line to what this op of this run did."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{context.run_id}.txt").open("a") as file:
        file.write(f"{context.op.name} {what}\n")


@dg.op(tags={**IMAGE, "bindery/compute": '{"memory": "400MiB", "cpu": 0.5}'})
def first(context: dg.OpExecutionContext) -> int:
    """Say that it was here."""
    note(context, "begins")
    note(context, "ends")
    return 1


@dg.op(tags=IMAGE, retry_policy=ONCE_MORE, config_schema={"seconds": dg.Field(float, default_value=0.0)})
def second(context: dg.OpExecutionContext, before: int) -> int:
    """Take its time."""
    note(context, "begins")
    print("the last line before the sleep", flush=True)
    time.sleep(context.op_config["seconds"])
    note(context, "ends")
    return before + 1


@dg.op(tags=IMAGE)
def third(context: dg.OpExecutionContext, before: int) -> int:
    """Say that it was here, too."""
    note(context, "begins")
    note(context, "ends")
    return before + 1


@dg.job
def three() -> None:
    """Three ops, one after the other."""
    third(second(first()))


@dg.op(tags=IMAGE, pool="probe_alone")
def alone(context: dg.OpExecutionContext) -> None:
    """Say when it began and ended, in one file for all runs."""
    FOLDER.mkdir(exist_ok=True)
    began = time.time()
    time.sleep(0.5)
    with (FOLDER / "alone.txt").open("a") as file:
        file.write(f"{context.run_id} {began} {time.time()}\n")


@dg.job
def queued() -> None:
    """One op that never runs beside another of its kind."""
    alone()


def _fill(megabytes: int) -> int:
    blocks = [b"x" * 2**20 for _ in range(megabytes)]
    return len(blocks)


@dg.op(tags={**IMAGE, "bindery/compute": '{"memory": "300MiB", "on_oom": "grow"}'}, retry_policy=ONCE_MORE)
def growing() -> int:
    """Need more than the class that it begins with has."""
    print("filling", flush=True)
    return _fill(500)


@dg.op(tags={**IMAGE, "bindery/compute": '{"memory": "300MiB"}'})
def hungry() -> int:
    """Need more than it may ever have."""
    print("filling", flush=True)
    return _fill(500)


@dg.job
def grows() -> None:
    """One that gets more."""
    growing()


@dg.job
def starves() -> None:
    """One that doesn't."""
    hungry()


defs = dg.Definitions(jobs=[three, queued, grows, starves], executor=docker_steps)
