"""What the cost sheet computes, and what it says of a price list that is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from dagster_project.operations.deploy.costs import SIZES, as_text, compute, read_prices
from dagster_project.operations.deploy.errors import DeployRefusedError
from tests.aws.terraform import SOURCE


def test_costs_follow_the_price_list(tmp_path: Path) -> None:
    given = read_prices(SOURCE / "prices.yaml")
    sheet = compute(given)
    assert sheet.month("minimal") < sheet.month("small") < sheet.month("production")
    assert sheet.month("minimal") < 20
    for size in SIZES:
        assert sheet.month(size) == pytest.approx(sum(line.usd for line in sheet.months[size]))
    (step,) = [each for each in sheet.steps if each.step == "landing/bookshop"]
    # 1 vCPU and 2 GiB: what Fargate has for a core and a GiB. 30 s of pulling, 120 s of work.
    assert (step.seconds, step.vcpu_seconds, step.gib_seconds) == (150, 150, 300)
    assert step.usd == pytest.approx(150 / 3600 * (0.04048 + 2 * 0.004445) * 0.32)
    # Fargate counts a minute at least.
    assert min(each.seconds for each in sheet.steps) == 60
    given["prices"]["db.t4g.micro_hour"]["usd"] = 1.016
    assert compute(given).month("minimal") == pytest.approx(sheet.month("minimal") + 730)
    text = as_text(sheet).splitlines()
    assert text[2].startswith(f"minimal      ${sheet.month('minimal'):8.2f} a month")


def test_the_guide_says_what_the_sheet_says() -> None:
    sheet = compute(read_prices(SOURCE / "prices.yaml"))
    page = (SOURCE.parent.parent / "docs" / "aws.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| \**\$(\d+)\** \|$", page, re.MULTILINE))
    assert rows == {size: f"{sheet.month(size):.0f}" for size in SIZES}


def test_a_price_list_that_is_wrong_is_refused_by_name(tmp_path: Path) -> None:
    given = yaml.safe_load((SOURCE / "prices.yaml").read_text())
    file = tmp_path / "prices.yaml"
    for path, value, says in (
        (("prices", "log_gb", "usd"), "free", "prices.log_gb.usd should be a number"),
        (("prices", "log_gb", "source"), "hearsay", "prices.log_gb.source should be the page"),
        (("run", "steps", "raw/uploads", "class"), "vast", "run.steps.raw/uploads: there is no compute class 'vast'"),
        (("sizes", "minimal", "database", "class"), "db.x", "the price list has no 'db.x_hour'"),
    ):
        wrong = json.loads(json.dumps(given))
        at = wrong
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
        file.write_text(yaml.safe_dump(wrong))
        with pytest.raises(DeployRefusedError, match=says):
            compute(read_prices(file))
