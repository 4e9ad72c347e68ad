"""Jobs made to be broken by tests on ECS: ops that ask for sizes and images, that wait, that fill memory, that fail."""

# No postponed annotations here: Dagster reads those of ops as they are.
import time

import dagster as dg

from dagster_project.execution.ecs.executor import ecs_steps

MODULE, ATTRIBUTE = "tests.aws.ecs_probe", "defs"
OTHER = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/custom/model:7"
ABSENT = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/bindery/dagster:never-pushed"
ONCE_MORE = dg.RetryPolicy(max_retries=1)
START = {"start": dg.In(dg.Nothing)}


@dg.op(tags={"bindery/compute": "medium"})
def sized() -> None:
    """Ask for a size, first of all: nobody after it may have it."""
    print("sized was here", flush=True)


@dg.op(ins=START)
def plain() -> None:
    """Ask for nothing."""


@dg.op(ins=START, tags={"bindery/image": OTHER})
def custom() -> None:
    """Ask for an image of its own."""


@dg.job(tags={"team": "books"})
def three() -> None:
    """A sized one, then two beside each other."""
    done = sized()
    plain(done)
    custom(done)


@dg.op(config_schema={"seconds": dg.Field(float, default_value=0.0)})
def patient(context: dg.OpExecutionContext) -> None:
    """Take its time."""
    print("the last line before the sleep", flush=True)
    time.sleep(context.op_config["seconds"])


@dg.op(retry_policy=ONCE_MORE, config_schema={"seconds": dg.Field(float, default_value=0.0)})
def stubborn(context: dg.OpExecutionContext) -> None:
    """Take its time, and come again if need be."""
    print("the last line before the sleep", flush=True)
    time.sleep(context.op_config["seconds"])


@dg.job
def waits() -> None:
    """One op, that waits."""
    patient()


@dg.job
def comes_again() -> None:
    """One op, that waits and may be tried again."""
    stubborn()


def _fill(megabytes: int) -> int:
    print("filling", flush=True)
    blocks = []
    for _ in range(megabytes):
        blocks.append(b"x" * 2**20)
        time.sleep(0.001)
    time.sleep(2)
    return len(blocks)


@dg.op(tags={"bindery/compute": '{"cpu": 0.25, "memory": "512MiB"}'})
def hungry() -> int:
    """Need more than it may have."""
    return _fill(600)


@dg.job
def starves() -> None:
    """One that runs out of memory."""
    hungry()


@dg.op(tags={"bindery/image": ABSENT})
def unpushed() -> None:
    """Ask for an image that is nowhere."""


@dg.op(tags={"bindery/compute": "gpu"})
def wants_gpu() -> None:
    """Ask for a GPU."""


@dg.job
def no_image() -> None:
    """One that never starts."""
    unpushed()


@dg.job
def no_gpu() -> None:
    """One that can't start."""
    wants_gpu()


defs = dg.Definitions(jobs=[three, waits, comes_again, starves, no_image, no_gpu], executor=ecs_steps)


def job(name: str) -> dg.JobDefinition:
    """Give a job with the executor."""
    return defs.resolve_job_def(name)
