"""Limits from history: what steps write down at their end is read back from the event log, and judged."""

# No postponed annotations here: Dagster reads those of an op's function as they are.
import base64
import resource
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.reconstruct import reconstructable
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import serialize_value

from dagster_project.cli import doctor as command
from dagster_project.execution import step as step_program
from dagster_project.execution.compute import CLASSES, COMPUTE_TAG, MIB, Compute, requested
from dagster_project.execution.docker.diagnosis import Death, explain
from dagster_project.operations.doctor import compute
from dagster_project.operations.doctor.compute import History, Proposal


@dg.op(tags={COMPUTE_TAG: "medium"})
def builds() -> None:
    """Builds."""


@dg.op(tags={COMPUTE_TAG: '{"class": "small", "on_oom": "grow"}'})
def dies() -> None:
    """Is ended by the kernel."""
    raise dg.Failure(explain(Death(137, True), CLASSES["small"], None, [], "bindery-step-dies"), allow_retries=False)


@dg.job
def nightly() -> None:
    builds()
    dies()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run(instance: dg.DagsterInstance, peak: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the job, and have each step's process write down what it used, as in its container."""
    done = nightly.execute_in_process(instance=instance, raise_on_error=False)
    used = {resource.RUSAGE_SELF: peak // 1024, resource.RUSAGE_CHILDREN: 1000}
    monkeypatch.setattr(
        step_program.resource,  # type: ignore[attr-defined]
        "getrusage",
        lambda whose: SimpleNamespace(ru_maxrss=used[whose], ru_utime=2.0, ru_stime=0.5),
    )
    origin = reconstructable(nightly).get_python_origin()
    arguments = ExecuteStepArgs(origin, done.run_id, ["builds"], instance.get_ref())
    packed = base64.b64encode(zlib.compress(serialize_value(arguments).encode())).decode()
    step_program.report_usage([packed])


def test_what_steps_write_down_is_read_back(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    for peak in (300, 500, 400):
        run(instance, peak * MIB, monkeypatch)
    found = compute.history(instance)
    assert found.keys() == {"builds", "dies"}
    assert sorted(found["builds"].peaks) == [300 * MIB, 400 * MIB, 500 * MIB]
    assert found["builds"].cpu == [5.0] * 3
    assert found["builds"].out_of_memory == 0
    assert (found["dies"].peaks, found["dies"].out_of_memory) == ([], 3)
    assert len(compute.history(instance, runs=1)["builds"].peaks) == 1
    builds, dies = compute.proposals(found, nightly, CLASSES)
    assert (builds.runs, builds.p95_peak, builds.max_peak, builds.wanted) == (3, 500 * MIB, 500 * MIB, None)
    assert dies.wanted == {"class": "medium"}


def test_a_real_process_says_what_it_used(instance: dg.DagsterInstance) -> None:
    done = nightly.execute_in_process(instance=instance, raise_on_error=False)
    origin = reconstructable(nightly).get_python_origin()
    arguments = ExecuteStepArgs(origin, done.run_id, ["builds"], instance.get_ref())
    step_program.report_usage([base64.b64encode(zlib.compress(serialize_value(arguments).encode())).decode()])
    (peak,) = compute.history(instance)["builds"].peaks
    assert peak > 50 * MIB, "this process has Dagster in it"


def judged(now: Compute, *peaks: int, out_of_memory: int = 0) -> Proposal:
    used = History([peak * MIB for peak in peaks], [1.0] * len(peaks), out_of_memory)
    return compute.propose("x", now, used, CLASSES)


@pytest.mark.parametrize(
    ("now", "peaks", "wanted"),
    [
        ("small", [200] * 5, {"class": "small", "memory": "384MiB"}),
        ("small", [200] * 4, None),  # too few runs
        ("small", [600] * 9, None),  # fits
        ("small", [100] * 8 + [900], {"class": "medium", "memory": "1280MiB"}),
        ("medium", [400] * 5, {"class": "small"}),
        ("medium", [2000] * 5, None),
        ("large", [1000] * 5, {"class": "medium", "memory": "1408MiB"}),
        ("large", [15000], {"class": "large", "memory": "19584MiB"}),
        ("gpu", [500] * 5, {"class": "gpu", "memory": "768MiB"}),
    ],
)
def test_what_is_proposed(now: str, peaks: list[int], wanted: dict[str, str] | None) -> None:
    assert judged(CLASSES[now], *peaks).wanted == wanted


def test_what_is_proposed_can_be_asked_for_and_is_enough() -> None:
    for name, now in CLASSES.items():
        for peak in (50, 180, 300, 700, 1000, 3000, 9000, 15000, 40000):
            found = judged(now, *[peak] * 6)
            if found.wanted is not None:
                given = requested({COMPUTE_TAG: str(dict(found.wanted)).replace("'", '"')})
                assert given.memory >= peak * MIB * 1.2, (name, peak)
                assert compute.propose("x", given, History([peak * MIB] * 6, [1.0] * 6), CLASSES).wanted is None


def test_a_step_that_ran_out_of_memory_gets_more() -> None:
    for name in ("small", "medium", "large"):
        found = judged(CLASSES[name], 100, out_of_memory=2)
        assert found.wanted is not None
        assert requested({COMPUTE_TAG: str(dict(found.wanted)).replace("'", '"')}).memory > CLASSES[name].memory
        assert "2 times" in found.reason


def test_the_line_of_a_card(tmp_path: Path) -> None:
    card = tmp_path / "defs.yaml"
    card.write_text("type: x\nattributes:\n  source: shop\n")
    wanted = {"fetch": "small", "load": compute.written({"class": "small", "memory": "384MiB"})}
    text = "compute: {fetch: small, load: {class: small, memory: 384MiB}}"
    assert compute.card_line(card, wanted) == f"{card}: add under attributes: {text}"
    card.write_text("type: x\nattributes:\n  source: shop\n  compute: {fetch: small, load: small}\n")
    assert compute.card_line(card, wanted) == f"{card}:4: {text}"


def test_the_line_of_a_tag() -> None:
    from dagster_project.definitions import bindery

    job = bindery().resolve_job_def("pipeline_with_scraping")
    path, number, text = compute.tag_line(job, "features__rating_summary", {"class": "medium"}).split(":", 2)
    assert Path(path).name == "rating_summary.py"
    assert Path(path).read_text().splitlines()[int(number) - 1].strip() == 'op_tags={"bindery/compute": "small"},'
    assert text.strip() == 'op_tags={"bindery/compute": "medium"},'
    said = compute.tag_line(job, "dbt_gutenberg", {"class": "small", "memory": "512MiB"})
    assert "dbt_assets/ops.py:" in said
    assert """op_tags={COMPUTE_TAG: '{"class": "small", "memory": "512MiB"}', "bindery/image": "dbt"},""" in said


def test_what_a_tag_says_beside_memory_stays() -> None:
    tag = '{"class": "small", "on_oom": "grow", "memory": "512MiB"}'
    assert compute.merged(tag, {"class": "medium"}) == {"class": "medium", "on_oom": "grow"}
    assert compute.merged("small", None) == {"class": "small"}


def test_the_command_names_the_lines_to_change(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    used = {
        "raw__gutenberg": History([900 * MIB] * 6, [1.0] * 6),
        "landing__gutenberg": History([600 * MIB] * 6, [1.0] * 6),
        "features__rating_summary": History([], [], 1),
        "of_another_code_location": History([1], [1.0]),
    }
    monkeypatch.setattr(compute, "history", lambda _instance, _runs: used)
    monkeypatch.setenv("BINDERY_ENVIRONMENT", "docker")
    monkeypatch.setattr(dg.DagsterInstance, "get", staticmethod(lambda: instance))
    done = CliRunner().invoke(command.doctor, ["compute"], catch_exceptions=False)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert any("defs/gutenberg/defs.yaml:13: compute: {fetch: small, load: {class: medium," in line for line in lines)
    assert any("rating_summary.py" in line and "medium" in line for line in lines)
    assert "of_another_code_location" not in done.output
    told = CliRunner().invoke(command.doctor, ["compute", "--json"], catch_exceptions=False).output.splitlines()
    assert len(told) == 3
    monkeypatch.setattr(compute, "history", lambda _instance, _runs: {})
    assert "no history" in CliRunner().invoke(command.doctor, ["compute"]).output
