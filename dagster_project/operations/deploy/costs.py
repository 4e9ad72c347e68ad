"""The cost sheet: what a month and a run cost, by a list of prices that users may change.

Pure arithmetic over ``deploy/terraform/prices.yaml``: prices with their sources, what Terraform makes in each size, and
assumptions about use. It knows no discount, no free tier and no tax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster_project.operations.deploy.errors import DeployRefusedError

HOURS = 730.0
"""A month, as AWS counts."""
DAYS = HOURS / 24
SIZES = ("minimal", "small", "production")


@dataclass(frozen=True)
class Line:
    """One line of the sheet."""

    what: str
    usd: float
    how: str


@dataclass(frozen=True)
class StepCost:
    """What one step of a run uses."""

    step: str
    size: str
    seconds: float
    """Paid for: the work, the pull of the image, and at least what Fargate counts."""
    vcpu_seconds: float
    gib_seconds: float
    usd: float


@dataclass(frozen=True)
class Sheet:
    """All of it."""

    region: str
    as_of: str
    months: Mapping[str, list[Line]]
    steps: list[StepCost]
    worker_usd: Mapping[str, float]
    """Size -> what a run's own task costs, and the addresses of all its tasks."""
    use: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def month(self, size: str) -> float:
        """Add up a month."""
        return sum(line.usd for line in self.months[size])

    def run(self, size: str) -> float:
        """Add up a run."""
        return self.worker_usd[size] + sum(step.usd for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Give it to machines."""
        return {
            "region": self.region,
            "as_of": self.as_of,
            "month_usd": {size: round(self.month(size), 2) for size in self.months},
            "run_usd": {size: round(self.run(size), 4) for size in self.months},
            "lines": {
                size: [{"what": line.what, "usd": round(line.usd, 2), "how": line.how} for line in lines]
                for size, lines in self.months.items()
            },
            "steps": [
                {
                    "step": each.step,
                    "size": each.size,
                    "seconds": each.seconds,
                    "vcpu_seconds": round(each.vcpu_seconds, 1),
                    "gib_seconds": round(each.gib_seconds, 1),
                    "usd": round(each.usd, 6),
                }
                for each in self.steps
            ],
        }


def read_prices(path: Path) -> dict[str, Any]:
    """Read a price list.

    Raises:
        DeployRefusedError: It isn't there, or a price has no source or makes no sense; the message names it.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DeployRefusedError(f"{path} can't be read: {error}") from None
    for part in ("region", "as_of", "prices", "sizes", "use", "run"):
        if not isinstance(found, dict) or part not in found:
            raise DeployRefusedError(f"{path}: {part!r} is missing; deploy/terraform/prices.yaml is how it looks")
    for name, price in found["prices"].items():
        usd = price.get("usd") if isinstance(price, dict) else None
        if not isinstance(usd, int | float) or isinstance(usd, bool) or usd < 0:
            raise DeployRefusedError(f"{path}: prices.{name}.usd should be a number of at least 0, got {usd!r}")
        if not str(price.get("source", "")).startswith("https://"):
            raise DeployRefusedError(f"{path}: prices.{name}.source should be the page that has the price")
    return dict(found)


@dataclass(frozen=True)
class _Prices:
    usd: Mapping[str, Mapping[str, Any]]

    def __call__(self, name: str) -> float:
        if name not in self.usd:
            raise DeployRefusedError(f"the price list has no {name!r}; there are {', '.join(self.usd)}")
        return float(self.usd[name]["usd"])

    def task_hour(self, cpu: float, mib: float) -> float:
        """Price an hour of a task: units of CPU (1024 a core), MiB."""
        return cpu / 1024 * self("fargate_vcpu_hour") + mib / 1024 * self("fargate_gib_hour")


def compute(given: Mapping[str, Any]) -> Sheet:
    """Make the sheet of a price list.

    Raises:
        DeployRefusedError: A price, a size or a compute class is missing.
    """
    price = _Prices(given["prices"])
    steps = [_step(name, said, given, price) for name, said in given["run"]["steps"].items()]
    worker: dict[str, float] = {}
    months: dict[str, list[Line]] = {}
    for size in SIZES:
        made, use = given["sizes"][size], given["use"][size]
        seconds = float(given["use"]["pull_seconds"]) + float(given["run"]["seconds"])
        usd = price.task_hour(*made["run"]) * price("fargate_spot_share") * seconds
        if made["public_addresses"]:
            usd += price("public_address_hour") * (seconds + sum(each.seconds for each in steps))
        worker[size] = usd / 3600
        months[size] = _month(made, use, price, worker[size] + sum(each.usd for each in steps))
    return Sheet(str(given["region"]), str(given["as_of"]), months, steps, worker, given["use"])


def _step(name: str, said: Mapping[str, Any], given: Mapping[str, Any], price: _Prices) -> StepCost:
    from dagster_project.execution.compute import ComputeError, requested
    from dagster_project.execution.ecs.sizes import SizeError, size_of

    try:
        size = size_of(requested({"bindery/compute": str(said["class"])}))
    except (ComputeError, SizeError) as error:
        raise DeployRefusedError(f"run.steps.{name}: {error}") from None
    paid = max(float(given["use"]["pull_seconds"]) + float(said["seconds"]), price("fargate_least_seconds"))
    usd = price.task_hour(size.cpu, size.memory) * paid / 3600 * price("fargate_spot_share")
    return StepCost(name, str(size), paid, size.cpu / 1024 * paid, size.memory / 1024 * paid, usd)


def _month(made: Mapping[str, Any], use: Mapping[str, Any], price: _Prices, run_usd: float) -> list[Line]:
    awake = float(use["awake_hours_a_month"])
    database, services = made["database"], made["services"]
    lines = [
        Line(
            "database",
            price(f"{database['class']}_hour") * HOURS * database["zones"],
            f"{database['class']}, {database['zones']} zone(s), all month",
        ),
        Line(
            "database storage",
            price("database_gib_month") * database["gib"] * database["zones"],
            f"{database['gib']} GiB; backups as large as that are included",
        ),
        Line(
            "services",
            sum(price.task_hour(*pair) for pair in services.values()) * awake,
            f"{len(services)} task(s), {awake:g} h awake",
        ),
        Line("runs and steps", run_usd * use["runs_a_day"] * DAYS, f"{use['runs_a_day']:g} runs a day on Spot"),
    ]
    if made["public_addresses"]:
        usd = price("public_address_hour") * len(services) * awake
        lines.append(Line("public addresses", usd, "of the services; nothing may come in by them"))
    if made["nat_gateways"]:
        usd = made["nat_gateways"] * price("nat_gateway_hour") * HOURS + use["nat_gb"] * price("nat_gateway_gb")
        lines.append(Line("NAT gateways", usd, f"{made['nat_gateways']}, {use['nat_gb']:g} GB through them"))
    if made["load_balancers"]:
        usd = (price("load_balancer_hour") + price("load_balancer_unit_hour")) * HOURS
        addresses = 2 * price("public_address_hour") * HOURS
        lines.append(Line("load balancer", usd + addresses, "one capacity unit, two addresses"))
    buckets = use["stored_gb"] * price("bucket_gb_month")
    requests = use["runs_a_day"] * DAYS * (price("bucket_1000_writes") + price("bucket_1000_reads"))
    lines += [
        Line("buckets", buckets + requests, f"{use['stored_gb']:g} GB; a thousand reads and writes a run"),
        Line("logs", use["logs_gb"] * (price("log_gb") + price("log_gb_month")), f"{use['logs_gb']:g} GB"),
        Line("images", use["images_gb"] * price("registry_gb_month"), f"{use['images_gb']:g} GB"),
        Line("alarms", made["alarms"] * price("alarm_month"), f"{made['alarms']}"),
    ]
    if made["secrets"]:
        lines.append(Line("secrets", made["secrets"] * price("secret_month"), f"{made['secrets']}"))
    if made["zones"]:
        lines.append(Line("names of services", made["zones"] * price("dns_zone_month"), "a private DNS zone"))
    # Three long polls a minute while awake.
    polls = awake * 60 * 3 / 1e6 * price("queue_million_requests")
    lines.append(Line("queue", polls, "long polls while awake"))
    return lines


def as_text(sheet: Sheet, size: str | None = None) -> str:
    """Write the sheet for people: the months, then one size in detail and one run by step."""
    shown = size or "minimal"
    text = [f"Prices of {sheet.region}, {sheet.as_of}, on demand, without tax and free tiers; yours: prices.yaml", ""]
    for each in SIZES:
        use = sheet.use[each]
        how = f"{use['runs_a_day']:g} runs a day, awake {use['awake_hours_a_month']:g} h a month"
        text.append(f"{each:12} ${sheet.month(each):8.2f} a month   ${sheet.run(each):.4f} a run   ({how})")
    text += ["", f"{shown}, a month:"]
    text += [f"  {line.what:20} ${line.usd:8.2f}   {line.how}" for line in sheet.months[shown]]
    text += ["", "one run of the shipped graph, by step (Spot):"]
    for step in sheet.steps:
        used = f"{step.vcpu_seconds:6.0f} vCPU-s {step.gib_seconds:6.0f} GiB-s"
        text.append(f"  {step.step:26} {step.size:30} {step.seconds:5.0f} s {used}   ${step.usd:.5f}")
    text.append(f"  {'the run, and addresses':26} {'':30} {'':5}   {'':27}   ${sheet.worker_usd[shown]:.5f}")
    return "\n".join(text)
