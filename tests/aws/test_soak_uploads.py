"""Uploads of every format, with repeated, shuffled and lost notifications, while everything is killed in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.moto import Moto
from tests.aws.uploads_soak import run, soak


def test_sixty_uploads_while_each_part_is_killed(aws: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with soak(aws, tmp_path, monkeypatch) as found:
        run(found, [(n, n * 7 % 1000, n % 5 + 1) for n in range(1200)], 60, seconds=100, every=1.5, rounds=2)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_five_hundred_uploads_while_each_part_is_killed(
    aws: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with soak(aws, tmp_path, monkeypatch) as found:
        run(found, [(n, n * 7 % 1000, n % 5 + 1) for n in range(25_000)], 500, seconds=800, every=4, rounds=6)
