"""Compute classes become sizes that Fargate has: rounded up, never down, the cheapest that fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.execution.compute import CLASSES, MIB, Compute
from dagster_project.execution.ecs.sizes import CPU_WEIGHT, FARGATE, MEMORY_WEIGHT, SizeError, is_valid, size_of


@pytest.mark.parametrize(
    ("cpu", "memory", "pair"),
    [
        (0.1, 256, (256, 512)),
        (0.25, 512, (256, 512)),
        (0.25, 3000, (512, 3072)),
        (0.5, 1024, (512, 1024)),
        (1, 1024, (1024, 2048)),
        (1, 8193, (2048, 9216)),
        (2, 4096, (2048, 4096)),
        (4, 16384, (4096, 16384)),
        (5, 16384, (8192, 16384)),
        (8, 17000, (8192, 20480)),
        (1, 61440, (8192, 61440)),
        (16, 122880, (16384, 122880)),
        (9, 33000, (16384, 40960)),
    ],
)
def test_the_next_pair_that_fargate_has(cpu: float, memory: int, pair: tuple[int, int]) -> None:
    size = size_of(Compute("asked", cpu, memory * MIB))
    assert (size.cpu, size.memory) == pair
    assert size.on_fargate
    assert ("rounded up" in size.why) is (pair != (cpu * 1024, memory))


def test_the_pairs_are_those_that_aws_publishes() -> None:
    assert {cpu: (min(sizes), max(sizes), len(sizes)) for cpu, sizes in FARGATE.items()} == {
        256: (512, 2048, 3),
        512: (1024, 4096, 4),
        1024: (2048, 8192, 7),
        2048: (4096, 16384, 13),
        4096: (8192, 30720, 23),
        8192: (16384, 61440, 12),
        16384: (32768, 122880, 12),
    }
    assert not is_valid(256, 4096)
    assert not is_valid(300, 512)


@given(st.floats(0.01, 16), st.integers(256, 122880))
def test_nothing_smaller_is_chosen_and_nothing_cheaper_would_do(cpu: float, memory: int) -> None:
    size = size_of(Compute("asked", cpu, memory * MIB))
    assert is_valid(size.cpu, size.memory)
    assert size.memory >= memory
    assert size.cpu >= cpu * 1024 - 1e-3

    def price(units: int, mib: int) -> float:
        return units / 1024 * CPU_WEIGHT + mib / 1024 * MEMORY_WEIGHT

    for units, sizes in FARGATE.items():
        for mib in sizes:
            if units >= cpu * 1024 and mib >= memory:
                assert price(size.cpu, size.memory) <= price(units, mib)


@pytest.mark.parametrize("asked", [CLASSES["gpu"], Compute("huge", 17, 4096 * MIB), Compute("huge", 4, 130_000 * MIB)])
def test_what_fargate_lacks_goes_to_instances_or_is_refused_with_the_fix(asked: Compute) -> None:
    with pytest.raises(SizeError, match="BINDERY_ECS_GPU_CAPACITY_PROVIDER"):
        size_of(asked)
    size = size_of(asked, "shop-gpu")
    assert not size.on_fargate
    mib = asked.memory // MIB
    assert (size.cpu, size.memory, size.gpu) == (asked.cpu * 1024, mib - mib // 8, asked.gpu)
    assert "shop-gpu" in size.why


def test_the_class_gpu_is_what_terraform_registers_for_it() -> None:
    size = size_of(CLASSES["gpu"], "shop-gpu")
    assert (size.cpu, size.memory) == (4096, 14336)
