"""``bindery prove``: kill -9 in the middle of a load, run again, compare the tables with an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import click

ROWS = 200_000
STAGES = ("land", "copy", "merge", "before_commit", "after_commit")
"""Where the killed loads are killed: the engine's own checkpoints."""

CARD = """\
type: dagster_project.components.FileSource
attributes:
  source: prove
  path: {folder}
  settle: 0s
  streams:
    - name: ratings
      files: ["*.csv"]
      primary_key: [user_id, book_id]
      write: merge
      columns:
        user_id: {{type: bigint}}
        book_id: {{type: bigint}}
        rating: {{type: bigint}}
"""

CHILD = textwrap.dedent(
    """
    import os, signal, sys, time
    from pathlib import Path
    from dagster_project.cli.prove import load
    stage, marker = sys.argv[3], Path(sys.argv[4])
    def checkpoint(reached):
        if reached == stage:
            marker.write_text(reached)
            time.sleep(60)  # the parent kills us here
    load(Path(sys.argv[1]), sys.argv[2], checkpoint)
    """
)


def load(card_file: Path, database: str, checkpoint: Any = None) -> None:
    """Run the card into a database of the platform's server."""
    from dagster_project.ingest import pipeline
    from dagster_project.ingest.cards.read import read_card
    from dagster_project.runtime import engine_runtime
    from dagster_project.settings import get_settings

    runtime = engine_runtime(get_settings(), database=database)
    runtime.landing = str(card_file.parent / f"landing-{database}")
    if checkpoint is not None:
        runtime.checkpoint = checkpoint
    pipeline.run_source(read_card(card_file), runtime)


def fingerprint(database: str) -> tuple[int, str]:
    """Give row count and hash of the loaded table, lineage left out."""
    from dagster_project import warehouse
    from dagster_project.settings import get_settings

    with warehouse.connect(get_settings(), "loader", database) as connection:
        row = connection.execute(
            "select count(*), md5(string_agg(md5(r::text), '' order by user_id, book_id)) "
            "from (select user_id, book_id, rating from raw.prove__ratings) r"
        ).fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


@click.command()
@click.option("--seed", type=int, default=None, help="For the data; printed, to repeat a run.")
def prove(seed: int | None) -> None:
    """Kill -9 in the middle of loads, run them again, and show that the tables are those of an undisturbed run.

    Works in two scratch databases, removed at the end; your data are not touched.
    """
    from dagster_project import warehouse
    from dagster_project.settings import get_settings

    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    started = time.monotonic()
    settings = get_settings()
    warehouse.ensure_ready(settings)
    calm, killed = (f"{settings.database_name}_prove_{word}" for word in ("calm", "killed"))
    click.echo(f"{ROWS:,} ratings, seed {seed}; scratch databases {calm}, {killed}")
    with tempfile.TemporaryDirectory(prefix="bindery-prove-") as folder:
        try:
            for name in (calm, killed):
                warehouse.create_scratch(settings, name)
            same = _prove(Path(folder), calm, killed, seed)
        finally:
            for name in (calm, killed):
                warehouse.drop_scratch(settings, name)
    click.echo(f"{time.monotonic() - started:.1f} s")
    sys.exit(0 if same else 1)


def _prove(folder: Path, calm: str, killed: str, seed: int) -> bool:
    card = folder / "defs.yaml"
    card.write_text(CARD.format(folder=folder))
    write_ratings(folder / "1.csv", seed)
    load(card, calm)
    want = fingerprint(calm)
    click.echo(f"undisturbed           {want[0]:>9,} rows  {want[1]}")
    for stage in STAGES:
        kill_at(card, killed, stage, folder)
    load(card, killed)
    got = fingerprint(killed)
    ok = got == want
    click.echo(f"killed {len(STAGES)} times, rerun {got[0]:>9,} rows  {got[1]}")
    click.secho("same tables" if ok else "THE TABLES DIFFER", fg="green" if ok else "red", bold=True)
    return ok


def kill_at(card: Path, database: str, stage: str, folder: Path) -> None:
    """Start a load in a process of its own and kill it with SIGKILL when it reaches the stage."""
    marker = folder / f"reached-{stage}"
    command = [sys.executable, "-c", CHILD, str(card), database, stage, str(marker)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    code = process.wait()
    if not marker.exists() or code != -signal.SIGKILL:
        raise click.ClickException(f"the load ended with {code} before it could be killed at {stage!r}")
    click.echo(f"kill -9 at {stage}")


def write_ratings(path: Path, seed: int) -> None:
    """Write ratings with some duplicate keys, the same for the same seed."""
    generator = random.Random(seed)  # noqa: S311 - test data
    with path.open("w") as file:
        file.write("user_id,book_id,rating\n")
        for number in range(ROWS):
            file.write(f"{number // 20},{generator.randrange(10_000)},{generator.randrange(1, 6)}\n")
