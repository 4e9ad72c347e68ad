"""Compute classes as sizes that ECS accepts: on Fargate one of its pairs of CPU and memory, rounded up.

Pure arithmetic. What runs where Fargate can't serve (GPUs, more than its largest size) is an EC2 capacity provider's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dagster_project.execution.compute import MIB, Compute, format_size

UNITS = 1024
"""ECS's CPU units in one core."""

KEPT_BY_INSTANCES = 8
"""Part of an instance's memory that its system and the agent of ECS need: one of 16 GiB has no 16 GiB for tasks."""


class SizeError(ValueError):
    """No task can be as large as is asked; the message says what to change."""


def _steps(first: int, last: int, step: int = 1024) -> tuple[int, ...]:
    return tuple(range(first, last + 1, step))


FARGATE: dict[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: _steps(1024, 4096),
    1024: _steps(2048, 8192),
    2048: _steps(4096, 16384),
    4096: _steps(8192, 30720),
    8192: _steps(16384, 61440, 4096),
    16384: _steps(32768, 122880, 8192),
}
"""CPU units -> MiB of memory that go with them (Linux)."""
CPU_WEIGHT, MEMORY_WEIGHT = 0.04048, 0.004445
"""What an hour of a core and of a GiB weigh against each other; only the choice between two sizes hangs on it."""


@dataclass(frozen=True, slots=True)
class Size:
    """What ECS is asked for."""

    cpu: int
    """Units, 1024 a core."""
    memory: int
    """MiB."""
    gpu: int = 0
    on_fargate: bool = True
    why: str = ""
    """How it was chosen, for the event log; nothing where it is what the class says."""

    def __str__(self) -> str:
        """Write it for people."""
        gpu = f", {self.gpu} GPU" if self.gpu else ""
        where = "Fargate" if self.on_fargate else "EC2"
        return f"{self.cpu / UNITS:g} vCPU, {format_size(self.memory * MIB)}{gpu} on {where}"


def size_of(compute: Compute, gpu_provider: str | None = None) -> Size:
    """Choose the cheapest size that has at least what a class asks for.

    Args:
        compute: What the step asks for.
        gpu_provider: Capacity provider of EC2 instances, where there is one.

    Raises:
        SizeError: Fargate has no such size and there is no capacity provider that may have it.
    """
    cpu, memory = math.ceil(round(compute.cpu * UNITS, 3)), -(-compute.memory // MIB)
    fitting = [
        (units / UNITS * CPU_WEIGHT + mib / 1024 * MEMORY_WEIGHT, units, mib)
        for units, sizes in FARGATE.items()
        for mib in sizes
        if units >= cpu and mib >= memory
    ]
    if compute.gpu or not fitting:
        reason = f"{compute.gpu} GPU" if compute.gpu else "more than Fargate's largest, 16 vCPU and 120 GiB"
        if gpu_provider is None:
            raise SizeError(
                f"the compute class {compute} asks for {reason}, which Fargate doesn't have. What to change: name a "
                "capacity provider of EC2 instances in BINDERY_ECS_GPU_CAPACITY_PROVIDER (Terraform makes one with "
                "`gpu_instance_type`), or ask for less"
            )
        why = f"{reason}: by the capacity provider {gpu_provider}, whose instances keep an eighth of their memory"
        return Size(cpu, memory - memory // KEPT_BY_INSTANCES, compute.gpu, on_fargate=False, why=why)
    _, units, mib = min(fitting)
    if (units, mib) == (cpu, memory):
        return Size(units, mib)
    return Size(
        units, mib, why=f"the class asks for {compute.cpu:g} vCPU and {format_size(compute.memory)}; rounded up"
    )


def is_valid(cpu: int, memory: int) -> bool:
    """Say whether Fargate has this pair of CPU units and MiB."""
    return memory in FARGATE.get(cpu, ())
