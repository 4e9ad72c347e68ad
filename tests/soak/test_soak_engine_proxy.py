"""The engine's proxy under long fuzzing: whatever comes, nothing but what is allowed reaches the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from dagster_project.execution.engine_proxy.body import check_creation
from dagster_project.execution.engine_proxy.messages import Refused, parse_head, parse_json
from dagster_project.execution.engine_proxy.policy import Port, decide
from tests.unit import engine_proxy_attacks as attacks
from tests.unit import engine_proxy_oracle as oracle
from tests.unit.engine_proxy_world import OURS, bombard

BODIES = 50_000
REQUESTS = 50_000
ROUNDS = 300


@pytest.mark.timeout(3600)
def test_no_description_of_a_container_passes_that_another_judge_finds_harm_in() -> None:
    passed = 0

    @given(attacks.creations())
    @settings(max_examples=BODIES, deadline=None)
    def one(body: dict[str, Any]) -> None:
        nonlocal passed
        try:
            told = check_creation(parse_json(json.dumps(body)), OURS)
        except Refused:
            return
        passed += 1
        assert oracle.harm(told) == []

    one()
    print(f"{passed} of {BODIES} passed")
    assert passed > BODIES / 1000


@pytest.mark.timeout(3600)
def test_no_bytes_become_a_plan_that_another_judge_finds_fault_with() -> None:
    passed = 0

    @given(attacks.raw_requests())
    @settings(max_examples=REQUESTS, deadline=None)
    def one(raw: bytes) -> None:
        nonlocal passed
        head, mark, body = raw.partition(b"\r\n\r\n")
        for port in Port:
            try:
                request = parse_head(head + mark)
                told = type(request)(
                    request.method, request.path, request.query, request.length, body[: request.length]
                )
                plan = decide(port, told, OURS)
            except Refused:
                continue
            passed += 1
            # As the server would: whatever it is called, the engine says that it is ours.
            assert oracle.judge(plan.message(oracle.MINE, oracle.NET), port.value) == []

    one()
    print(f"{passed} plans from {REQUESTS} requests")
    assert passed > REQUESTS / 50


@pytest.mark.timeout(3600)
def test_nothing_else_reaches_the_engine_over_sockets(tmp_path: Path) -> None:
    reached = bombard(tmp_path, ROUNDS)
    print(f"{reached} messages reached the engine")
    assert reached > ROUNDS
