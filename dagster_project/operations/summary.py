"""What a run of the whole graph tells: signs of life while it goes, and per asset how it ended.

Built from Dagster's events alone, so it can also be made of a run that somebody else carried out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_project.operations.blame import place_in

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation, AssetMaterialization, DagsterEvent
    from dagster_shared.error import SerializableErrorInfo

COUNTS = ("rows_read", "inserted", "updated", "unchanged", "deleted", "quarantined", "objects", "requests")
SEVERITY = {4: 0, 5: 1, 1: 2, 3: 3, 2: 4}
"""Exit code -> rank among several: what a person should look at first comes last."""


@dataclass(slots=True)
class AssetResult:
    """How one asset ended."""

    key: str
    """``schema/table``."""
    group: str
    step: str
    status: str = "waiting"
    """``waiting``, ``running``, ``done``, ``failed``, ``skipped``."""
    rows: int | None = None
    """Of the table, where it was counted."""
    counts: dict[str, int] = field(default_factory=dict)
    """What a load or fetch counted: see ``COUNTS``."""
    seconds: float | None = None
    passed: int = 0
    warned: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Names of checks, with what they found."""


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step that failed for good."""

    step: str
    assets: tuple[str, ...]
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One sign of life."""

    kind: str
    """``started``, ``step_started``, ``asset``, ``check``, ``step_done``, ``step_retry``, ``step_failed``,
    ``step_skipped``, ``done``."""
    step: str | None = None
    asset: AssetResult | None = None
    message: str | None = None
    done: int = 0
    """Assets that have ended."""
    total: int = 0


@dataclass(slots=True)
class RunSummary:
    """How a run ended."""

    run_id: str
    database: str
    debug_rows: int
    assets: list[AssetResult] = field(default_factory=list)
    failures: list[StepFailure] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    finished: bool = False
    """Whether Dagster says that the run succeeded."""
    recovered_runs: list[str] = field(default_factory=list)
    """Runs that were found dead and marked as failed before this one began."""

    @property
    def failed_checks(self) -> list[tuple[AssetResult, str]]:
        """Checks of severity error that failed."""
        return [(asset, check) for asset in self.assets for check in asset.failed]

    @property
    def success(self) -> bool:
        """Whether everything ran and no check of severity error failed."""
        return self.finished and not self.failures and not self.failed_checks and not self.interrupted

    @property
    def exit_code(self) -> int:
        """0 done, 1 unexpected, 2 bad card or setting, 3 source failure, 4 data refused, 5 database, 130 stopped."""
        if self.success:
            return 0
        if self.interrupted:
            return 130
        codes = [failure.exit_code for failure in self.failures]
        if not codes:
            return 4 if self.failed_checks else 1
        return max(codes, key=lambda code: SEVERITY.get(code, -1))

    @property
    def ended(self) -> dict[str, int]:
        """How many assets ended in each way."""
        return dict(Counter(asset.status for asset in self.assets))

    @property
    def checks(self) -> tuple[int, int, int]:
        """Passed, warned, failed."""
        return (
            sum(asset.passed for asset in self.assets),
            sum(len(asset.warned) for asset in self.assets),
            sum(len(asset.failed) for asset in self.assets),
        )


class Collector:
    """Turn Dagster's events into a summary, and each into a sign of life."""

    def __init__(self, summary: RunSummary, step_assets: dict[str, list[AssetResult]]) -> None:
        self.summary = summary
        self._steps = step_assets
        self._by_key = {asset.key: asset for assets in step_assets.values() for asset in assets}
        self._ended: set[str] = set()

    def take(self, event: DagsterEvent) -> RunEvent | None:
        """Take one event; None where it is no sign of life."""
        kind, step = event.event_type_value, event.step_key
        if kind == "ASSET_MATERIALIZATION":
            return self._materialised(event.step_materialization_data.materialization)
        if kind == "ASSET_CHECK_EVALUATION":
            return self._checked(event.asset_check_evaluation_data)
        if step is None:
            return None
        if kind == "STEP_START":
            self._set(step, "running", only=("waiting",))
            return self._sign("step_started", step)
        if kind == "STEP_UP_FOR_RETRY":
            error = event.step_retry_data.error
            return self._sign("step_retry", step, message=_first_line((error.cause or error).message))
        if kind == "STEP_SUCCESS":
            self._finish(step, event.step_success_data.duration_ms / 1000)
            return self._sign("step_done", step)
        if kind == "STEP_SKIPPED":
            self._set(step, "skipped", only=("waiting", "running"))
            return self._sign("step_skipped", step)
        if kind == "STEP_FAILURE":
            return self._failed(event, step)
        return None

    def close(self) -> None:
        """Settle what the run left open: steps that never started because something before them failed."""
        for asset in self._by_key.values():
            if asset.status in {"waiting", "running"}:
                asset.status = "skipped"

    def _materialised(self, found: AssetMaterialization) -> RunEvent | None:
        asset = self._by_key.get(found.asset_key.to_user_string())
        if asset is None:
            return None
        values = {name: value.value for name, value in found.metadata.items()}
        asset.status = "done"
        asset.counts = {name: value for name in COUNTS if isinstance(value := values.get(name), int)}
        rows = values.get("dagster/row_count", values.get("rows_written"))
        asset.rows = rows if isinstance(rows, int) else None
        seconds = values.get("seconds")
        asset.seconds = float(seconds) if isinstance(seconds, int | float) else None
        self._ended.add(asset.key)
        return self._sign("asset", asset.step, asset=asset)

    def _checked(self, found: AssetCheckEvaluation) -> RunEvent | None:
        asset = self._by_key.get(found.asset_key.to_user_string())
        if asset is None:
            return None
        told = f"{found.check_name}: {found.description}" if found.description else found.check_name
        if found.passed:
            asset.passed += 1
        elif found.severity.value == "ERROR":
            asset.failed.append(told)
        else:
            asset.warned.append(told)
        return self._sign("check", asset.step, asset=asset, message=None if found.passed else told)

    def _failed(self, event: DagsterEvent, step: str) -> RunEvent:
        data = event.step_failure_data
        user = data.user_failure_data
        metadata: dict[str, Any] = {}
        message = ""
        if user is not None:
            metadata = {name: value.value for name, value in user.metadata.items()}
            message = user.description or ""
        if not message and data.error is not None:
            message = _fault(data.error.cause or data.error)
        code = metadata.get("exit_code")
        if not isinstance(code, int):
            code = 4 if "AssetCheckFailed" in message else 1
        assets = tuple(asset.key for asset in self._steps.get(step, []) if asset.status != "done")
        self.summary.failures.append(StepFailure(step, assets, message, code))
        self._set(step, "failed", only=("waiting", "running"))
        return self._sign("step_failed", step, message=message)

    def _finish(self, step: str, seconds: float) -> None:
        for asset in self._steps.get(step, []):
            if asset.status == "running":
                asset.status = "skipped"  # a step may leave an asset out
            if asset.seconds is None and asset.status == "done":
                asset.seconds = seconds

    def _set(self, step: str, status: str, only: tuple[str, ...]) -> None:
        for asset in self._steps.get(step, []):
            if asset.status in only:
                asset.status = status

    def _sign(self, kind: str, step: str, *, asset: AssetResult | None = None, message: str | None = None) -> RunEvent:
        return RunEvent(kind, step, asset, message, len(self._ended), len(self._by_key))


def _fault(error: SerializableErrorInfo) -> str:
    """Give an unexpected error's message, its first line with the place in ``defs/`` that it comes from."""
    message = error.message.strip()
    while error.cause is not None and place_in(error.stack) is None:
        error = error.cause
    place = place_in(error.stack)
    if place is None:
        return message
    first, *rest = message.splitlines() or [error.cls_name or "an error"]
    return "\n".join([f"{first} ({place})", *rest])


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
