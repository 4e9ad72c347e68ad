"""The small parts behind the steps: failures, plots, summaries, the instance's files, the example's arithmetic."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import AssetCheckSeverity

from dagster_project.components.failures import failure, is_transient
from dagster_project.components.report import history_plot
from dagster_project.components.schedule import usable_cron
from dagster_project.components.sparkline import bar, sparkline
from dagster_project.ingest.cards.file import FileSourceCard
from dagster_project.operations.dev import ENV_BEGIN, ENV_END, write_env_file
from dagster_project.operations.instance import fail_dead_runs, storage_url, this_worker, write_private
from dagster_project.operations.summary import AssetResult, RunSummary, StepFailure


class Passing(Exception):
    transient = True
    exit_code = 3


class Lasting(Exception):
    exit_code = 4


def test_only_what_may_pass_is_retried() -> None:
    assert failure(Passing("503"), "fetching x").allow_retries
    assert not failure(Passing("503"), "fetching x", tries_left=False).allow_retries
    assert not failure(Lasting("no"), "loading x").allow_retries
    assert not failure(KeyError("a"), "loading x").allow_retries


def test_a_failure_says_what_was_done_and_ends_with_its_code() -> None:
    made = failure(Lasting("refused"), "loading x")
    assert (made.description or "").startswith("loading x: refused")
    assert made.metadata["exit_code"].value == 4
    fault = failure(KeyError("a"), "loading x")
    assert "KeyError" in (fault.description or "")
    assert fault.metadata["exit_code"].value == 1


def test_lost_connections_pass_and_wrong_sql_does_not() -> None:
    import psycopg

    assert is_transient(psycopg.OperationalError("connection refused"))
    assert is_transient(psycopg.errors.DeadlockDetected("deadlock"))
    assert not is_transient(psycopg.errors.UndefinedTable("no such table"))
    wrapped = Lasting("database")
    wrapped.__cause__ = psycopg.errors.AdminShutdown("bye")
    assert is_transient(wrapped)
    assert is_transient(TimeoutError())


def test_plots_need_no_library() -> None:
    assert sparkline([0, 1, 4, 8]) == "·▂▅█"
    assert sparkline([0, 0]) == "··"
    assert sparkline([]) == ""
    assert bar(1.0, 4) == "████"
    assert bar(0.0001, 4) == "▏"
    assert bar(0, 4) == ""
    first, second = (dt.datetime(2026, 1, day, 3, 4, tzinfo=dt.UTC) for day in (2, 3))
    plot = history_plot([(first, 10, 10, 0, 0), (second, 20, 5, 5, 1)])
    assert "`▅█` rows read in the last 2 loads" in plot
    assert "2026-01-02 03:04" in plot


def summary(*assets: AssetResult, finished: bool = True, failures: tuple[StepFailure, ...] = ()) -> RunSummary:
    return RunSummary("r", "bindery", 0, list(assets), list(failures), finished=finished)


def asset(name: str, **more: object) -> AssetResult:
    made = AssetResult(name, "g", "s", status="done")
    for field, value in more.items():
        setattr(made, field, value)
    return made


def test_a_run_with_a_failed_check_is_no_success() -> None:
    assert summary(asset("a", passed=3, warned=["w: 3 rows"])).exit_code == 0
    broken = summary(asset("a", failed=["unique: 1 row"]))
    assert not broken.success
    assert broken.exit_code == 4


def test_the_exit_code_is_that_of_what_to_look_at_first() -> None:
    def failed(code: int) -> StepFailure:
        return StepFailure("s", (), "m", code)

    assert summary(finished=False, failures=(failed(3), failed(2), failed(5))).exit_code == 2
    assert summary(finished=False, failures=(failed(4), failed(3))).exit_code == 3
    assert summary(finished=False).exit_code == 1
    interrupted = summary(finished=False)
    interrupted.interrupted = True
    assert interrupted.exit_code == 130


def test_the_storage_url_has_no_password() -> None:
    url, line = storage_url("postgresql://bindery_dagster:p%3Ass%5C@127.0.0.1:6543/dagster?sslmode=require")
    assert url == (
        "postgresql+psycopg2://bindery_dagster@127.0.0.1:6543/dagster?sslmode=require&application_name=dagster"
    )
    assert line == "127.0.0.1:6543:dagster:bindery_dagster:p\\:ss\\\\\n"


def test_the_password_file_is_nobody_else_s(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    write_private(path, "one\n")
    assert path.stat().st_mode & 0o777 == 0o600
    write_private(path, "two\n")
    assert path.read_text() == "two\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["pgpass"]


def test_the_env_file_keeps_what_people_wrote(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("SOURCES=live\n")
    values = dict.fromkeys(
        ("DAGSTER_HOME", "BINDERY_DAGSTER_URL", "PGPASSFILE", "BINDERY_CODE_HOST", "BINDERY_CODE_PORT"), "1"
    )
    write_env_file(path, values)
    write_env_file(path, {**values, "BINDERY_CODE_PORT": "2"})
    lines = path.read_text().splitlines()
    assert lines[0] == "SOURCES=live"
    assert lines.count(ENV_BEGIN) == lines.count(ENV_END) == 1
    assert "BINDERY_CODE_PORT=2" in lines
    assert "BINDERY_CODE_PORT=1" not in lines


@dg.op
def nothing() -> None:
    return None


@dg.job
def idle() -> None:
    nothing()


def test_runs_whose_process_is_gone_are_marked_as_failed() -> None:
    with dg.DagsterInstance.ephemeral() as instance:

        def started(worker: str) -> str:
            run = instance.create_run_for_job(idle, tags={"bindery/worker": worker}, status=dg.DagsterRunStatus.STARTED)
            return run.run_id

        host, pid, start = this_worker().rsplit("/", 2)
        alive = started(f"{host}/{pid}/{start}")
        elsewhere = started(f"other-host/{pid}/{start}")
        reused = started(f"{host}/{pid}/1")
        gone = started(f"{host}/999999999/{start}")
        assert set(fail_dead_runs(instance)) == {gone, reused}
        states = {run.run_id: run.status for run in instance.get_runs()}
        assert states[gone] == states[reused] == dg.DagsterRunStatus.FAILURE
        assert states[alive] == states[elsewhere] == dg.DagsterRunStatus.STARTED


def test_the_example_asset_pulls_few_ratings_to_the_mean() -> None:
    import pandas as pd

    from dagster_project.defs.features.rating_summary import PRIOR_RATINGS, summarise

    ratings = pd.DataFrame({"book_id": [1] * 50 + [2], "rating": [4] * 50 + [5]}).astype("Int64")
    made = summarise(ratings)
    overall = (4 * 50 + 5) / 51
    scores = dict(zip(made["book_id"], made["score"], strict=True))
    assert scores[2] == pytest.approx((5 + PRIOR_RATINGS * overall) / (1 + PRIOR_RATINGS), abs=1e-4)
    assert scores[2] < 5
    assert list(made["rank"]) == [1, 2]
    assert list(made["ratings_count"]) == [1, 50]
    empty = summarise(ratings.head(0))
    assert list(empty.columns) == list(made.columns)
    assert len(empty) == 0


def test_severities_are_those_that_the_summary_knows() -> None:
    assert {each.value for each in AssetCheckSeverity} == {"ERROR", "WARN"}


def test_a_setting_that_is_no_cron_expression_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BINDERY_NIGHTLY", "61 * * * *")
    card = FileSourceCard.model_validate(
        {
            "source": "odd",
            "path": "drop",
            "schedule": {"cron": {"setting": "nightly"}},
            "streams": [{"name": "rows", "files": ["*.csv"]}],
        }
    )
    assert [usable_cron(card) for _ in range(3)] == [None] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "odd has no schedule: setting nightly: '61 * * * *' is no cron expression: the minute is 0 to 59, got '61'"
    ]


def test_the_guide_s_asset_is_one() -> None:
    """As somebody copies it from docs/python-assets.md."""
    import pandas as pd

    class Tables:
        written: tuple[object, ...] = ()

        def read_frame(self, sql: str) -> pd.DataFrame:
            assert "marts.dim_books" in sql
            return pd.DataFrame({"decade": [1990, 1990, 2000]}).astype("Int32")

        def write_frame(self, frame: pd.DataFrame, table: str, mode: str, key: str) -> str:
            self.written = (frame.to_dict("list"), table, mode, key)
            return "report"

        def describe(self, table: str, report: str) -> dict[str, str]:
            return {"table": table, "report": report}

    guide = (Path(__file__).parents[2] / "docs" / "python-assets.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(guide.split("```python\n")[1].split("```")[0], names)
    asset, tables = names["books_by_decade"], Tables()
    assert asset.key == dg.AssetKey(["features", "books_by_decade"])
    result = asset.op.compute_fn.decorated_fn(tables)
    assert tables.written == (
        {"decade": [1990, 2000], "size": [2, 1]},
        "features.books_by_decade",
        "replace",
        "decade",
    )
    assert result.metadata["table"] == "features.books_by_decade"
