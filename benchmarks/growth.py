"""What uploads do to queue, tasks and bill at 10, 1,000 and 100,000 files a day: a day simulated, look by look.

Files arrive as people send them: at random, and most of them in bursts after an hour strikes. A sensor looks at what
was announced and asks for a run, unless one of the source is going. The run lands all that waits, in as many steps side
by side as the backlog is worth (`tasks`, `per_task`, `parallel` of the card), loads it in one step, and builds models.
Fargate is paid from the pull of the image on, and for a minute at least. Nothing is measured here; the numbers
(`Model`) are assumptions that may be changed.

    python -m benchmarks.growth            the table of docs/growth.md (--write docs/growth.md puts it there)
    python -m benchmarks.growth --files 5000 --tasks 4 --parallel 16
"""

from __future__ import annotations

import argparse
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DAY = 86_400
SPOT = 0.32
LEAST_SECONDS = 60.0


@dataclass(frozen=True)
class Model:
    """One card's settings, one day's files, and how long things take."""

    files: int
    """Files a day."""
    tasks: int = 1
    """Most steps that land side by side."""
    per_task: int = 500
    """Files that are worth a step."""
    parallel: int = 4
    """Files that a step lands at once."""
    look: int = 30
    """Seconds between two looks: of the sensor, or the least time between runs."""
    start: float = 40.0
    """Seconds until a task's first line: Fargate, image, imports."""
    pull: float = 30.0
    """Of these, what is paid."""
    land_seconds: float = 0.3
    """Of a file: get it, keep its bytes, note it."""
    load_seconds: float = 0.05
    """Of a file: parse, copy and merge its rows, a few thousand."""
    step_seconds: float = 12.0
    """Of a step, whatever it does: settings, connections, checks."""
    dbt_steps: int = 2
    dbt_seconds: float = 25.0
    """Of a step of models."""
    burst: float = 0.7
    """Share of files that arrive within five minutes after an hour strikes, between 8 and 18 o'clock."""
    vcpu_hour: float = 0.04048
    gib_hour: float = 0.004445
    seed: int = 7


@dataclass(frozen=True)
class Day:
    """What came of it."""

    model: Model
    runs: int
    most_waiting: int
    """Files that waited at once: the queue, and what is announced."""
    median_wait: float
    """Seconds from upload to table."""
    p99_wait: float
    most_tasks: int
    """ECS tasks at once, the run's own included."""
    left: int
    """Files not loaded when the day was over."""
    usd: float
    """Of the day's tasks, on Spot."""


def arrivals(model: Model) -> list[float]:
    """Draw when files arrive."""
    draw = random.Random(model.seed)
    found = []
    for _ in range(model.files):
        if draw.random() < model.burst:
            found.append(draw.randint(8, 18) * 3600 + draw.expovariate(1 / 120) % 300)
        else:
            found.append(draw.random() * DAY)
    return sorted(found)


def simulate(model: Model) -> Day:
    """Let a day pass: every ``look`` seconds what waits becomes a run, if none is going."""
    coming, waiting = deque(arrivals(model)), deque[float]()
    waits: list[float] = []
    runs = most_waiting = most_tasks = 0
    paid = free_at = now = 0.0
    while now < DAY:
        while coming and coming[0] <= now:
            waiting.append(coming.popleft())
        most_waiting = max(most_waiting, len(waiting))
        if waiting and free_at <= now:
            count = len(waiting)
            steps = min(model.tasks, math.ceil(count / model.per_task))
            land = model.step_seconds + model.land_seconds * count / steps / model.parallel
            load = model.step_seconds + model.load_seconds * count
            # The run's own task starts, then its steps one kind after the other.
            loaded = now + model.start + (model.start + land) + (model.start + load)
            free_at = loaded + model.start + model.dbt_seconds
            waits += [loaded - arrived for arrived in waiting]
            waiting.clear()
            runs += 1
            most_tasks = max(most_tasks, 1 + max(steps, model.dbt_steps))
            paid += price(model, free_at - now, 0.25, 1)
            paid += steps * step_price(model, land) + step_price(model, load)
            paid += model.dbt_steps * step_price(model, model.dbt_seconds)
        now += model.look
    waits.sort()
    median, late = (waits[len(waits) // 2], waits[int(len(waits) * 0.99)]) if waits else (0.0, 0.0)
    return Day(model, runs, most_waiting, median, late, most_tasks, len(coming) + len(waiting), paid)


def step_price(model: Model, seconds: float) -> float:
    """Price a step of the smallest class."""
    return price(model, max(LEAST_SECONDS, model.pull + seconds), 1, 2)


def price(model: Model, seconds: float, vcpu: float, gib: float) -> float:
    """Price a task on Spot."""
    return (vcpu * model.vcpu_hour + gib * model.gib_hour) * seconds / 3600 * SPOT


CASES = (
    ("10 files", Model(files=10)),
    ("1,000 files", Model(files=1000)),
    ("1,000 files, a run each quarter of an hour", Model(files=1000, look=900)),
    ("100,000 files, nothing changed", Model(files=100_000)),
    ("100,000 files, tasks: 8, parallel: 16", Model(files=100_000, tasks=8, parallel=16)),
    ("the same, a run each quarter of an hour", Model(files=100_000, tasks=8, parallel=16, look=900)),
)
"""What the page shows."""


def table(days: Sequence[tuple[str, Day]]) -> str:
    """Write a table as the page has it."""
    lines = [
        "| a day | runs | most files waiting | median to table | 99 of 100 | tasks at once | left | $ a month |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, day in days:
        waits = f"{span(day.median_wait)} | {span(day.p99_wait)}"
        numbers = f"{day.most_tasks} | {day.left:,} | {day.usd * 30.4:,.2f}"
        lines.append(f"| {name} | {day.runs:,} | {day.most_waiting:,} | {waits} | {numbers} |")
    return "\n".join(lines)


def span(seconds: float) -> str:
    """Write a time for people."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def shown() -> str:
    """Give the table of the page."""
    return table([(name, simulate(model)) for name, model in CASES])


def replace_in(page: Path, text: str) -> None:
    """Put the table into the page, between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- simulation -->\n")
    _, _, after = rest.partition("<!-- end of simulation -->")
    page.write_text(f"{before}<!-- simulation -->\n{text}\n<!-- end of simulation -->{after}", encoding="utf-8")


def main() -> None:
    """Print the table, or one case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, help="files a day, instead of the page's cases")
    for name in ("tasks", "per_task", "parallel", "look", "land_seconds", "load_seconds"):
        default = getattr(Model, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = vars(parser.parse_args())
    page = options.pop("write")
    if options["files"] is not None:
        print(table([(f"{options['files']:,} files", simulate(Model(**options)))]))
        return
    if page:
        replace_in(page, shown())
    print(shown())


if __name__ == "__main__":
    main()
