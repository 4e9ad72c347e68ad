"""Runs of the whole graph ended at any moment, in any way: the next one makes the tables of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dagster_project.settings import Settings
from tests.integration.installation import installation
from tests.soak.undisturbed import TABLES, WHEN

if TYPE_CHECKING:
    import psycopg

ENDINGS = 24
EARLIEST = 3.0
"""Before that there is only Python that imports, and prints a traceback where it is interrupted."""
LONGEST = 40.0
"""Seconds into a run at the latest: a run takes 20 to 40."""
SEED = random.SystemRandom().randrange(10**6)
WAYS = ("kill", "kill all", "interrupt", "terminate")


def end(process: Any, way: str) -> None:
    """End a run: the process alone or everything in its session's first group, by force or by asking."""
    if way == "kill":
        process.kill()
    elif way == "kill all":
        os.killpg(process.pid, signal.SIGKILL)
    elif way == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()


@pytest.mark.timeout(3600)
def test_runs_ended_at_random_moments_leave_the_tables_of_an_undisturbed_one(
    server_settings: Settings, admin: psycopg.Connection[Any], tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    moments = random.Random(SEED)
    with (
        installation(server_settings, admin, tmp_path / "calm", "calm") as calm,
        installation(server_settings, admin, tmp_path / "ended", "ended") as ended,
    ):
        assert calm.bindery("run").returncode == 0
        met = 0
        for number in range(ENDINGS):
            log = tmp_path / f"{number}.log"
            process = ended.start("run", log=log)
            time.sleep(moments.uniform(EARLIEST, LONGEST))
            under_way = process.poll() is None
            met += under_way
            way = WAYS[number % len(WAYS)]
            if under_way:
                end(process, way)
            code = process.wait(60)
            told = f"seed {SEED}, ending {number} ({way}), code {code}\n{log.read_text()[-3000:]}"
            assert "Traceback" not in log.read_text(), told
            # Asked to end it says so (1: before the run had begun); it may also have been done already.
            allowed = {-signal.SIGKILL, 0} if "kill" in way else {130, 1, 0, -signal.SIGTERM}
            assert code in allowed, told
        assert met > ENDINGS / 2, f"seed {SEED}: only {met} of {ENDINGS} met a run"
        last = ended.bindery("run")
        assert last.returncode == 0, f"seed {SEED}\n{last.stdout[-3000:]}\n{last.stderr[-3000:]}"
        # The shop's address, a key of its products, differs between the two worlds; the ratings and books don't.
        for schema in TABLES:
            want, got = calm.content(None, (schema,), WHEN), ended.content(None, (schema,), WHEN)
            assert {table: rows for table, (rows, _) in got.items()} == {t: rows for t, (rows, _) in want.items()}, SEED
        for table in ("raw.gutenberg__books", "raw.uploads__ratings", "marts.fct_ratings", "features.rating_summary"):
            of_one = (table.partition(".")[0],)
            assert ended.content(None, of_one, WHEN)[table] == calm.content(None, of_one, WHEN)[table], (SEED, table)
        assert (
            ended.one(
                "select count(*) from runs where status in ('STARTED', 'STARTING')", ended.settings.dagster_database
            )
            == 0
        )
