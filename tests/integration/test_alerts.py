"""Alerts from trouble to sink: real runs and ticks of Dagster, a real warehouse, real HTTP and mail servers."""

# No postponed annotations here: Dagster reads those of an op's function as they are.

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.run_request import InstigatorType, SkipReason
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, TickData, TickStatus
from dagster_shared.error import SerializableErrorInfo

from dagster_project.execution.storage import keep_connections
from dagster_project.operations.alerts import Alert, sinks, store
from dagster_project.operations.alerts.deliver import deliver
from dagster_project.operations.alerts.runs import Cursor, finished_runs
from dagster_project.operations.alerts.sensor import NAME, alerts
from dagster_project.operations.instance import storage_url
from dagster_project.settings import Settings, get_settings
from dagster_project.warehouse import connect
from tests.integration.sinks import Mailbox, Webhook, mailbox, webhook

if TYPE_CHECKING:
    import psycopg

PRIVATE = "alice@example.org"
TOKEN = "tok-5f2e91c0"


@dg.op(config_schema={"good": bool})
def reads(context: dg.OpExecutionContext) -> None:
    if not context.op_config["good"]:
        raise dg.Failure(f"row 7: {PRIVATE} is no number", metadata={"error": "DataRefusedError"})


@dg.op(config_schema={"good": bool})
def asks(context: dg.OpExecutionContext) -> None:
    if not context.op_config["good"]:
        raise RuntimeError(f"{PRIVATE} again")


@dg.job
def nightly() -> None:
    reads()
    asks()


@dg.asset(freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1)))
def mart() -> None:
    """Is late in these tests."""


@dg.asset
def plain() -> None:
    """Has no freshness policy."""


@dg.sensor(name="arrivals", job=nightly)
def arrivals() -> None:
    """Its ticks are written by these tests."""


CODE = dg.Definitions(jobs=[nightly], assets=[mart, plain], sensors=[alerts(), arrivals])


@pytest.fixture(scope="module")
def storage(
    server_settings: Settings, admin: "psycopg.Connection[Any]", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    """An instance in Postgres, as every installation has it."""
    name = f"alerts_{os.getpid()}"
    admin.execute(f"create database {name} owner bindery_dagster")
    url, line = storage_url(server_settings.dsn("dagster", name).get_secret_value())
    home = tmp_path_factory.mktemp("dagster")
    (home / "pgpass").write_text(line)
    (home / "pgpass").chmod(0o600)
    (home / "dagster.yaml").write_text(
        f"storage: {{postgres: {{postgres_url: '{url}'}}}}\ntelemetry: {{enabled: false}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(home / "pgpass"))
        with dg.DagsterInstance.from_config(str(home)) as made:
            keep_connections(made)
            yield made
    admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def instance(storage: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    monkeypatch.setenv("PGPASSFILE", str(Path(storage.root_directory) / "pgpass"))
    storage.wipe()
    assert storage.schedule_storage is not None
    storage.schedule_storage.wipe()
    return storage


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as made:
        yield made


class Watch:
    """The sensor as the daemon evaluates it, its cursor kept from look to look."""

    def __init__(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
        self.instance, self.cursor = instance, None
        monkeypatch.setenv("BINDERY_ALERT_URLS", " ".join(urls))
        self.repository = CODE.get_repository_def()

    def look(self) -> str:
        context = dg.build_sensor_context(self.instance, self.cursor, repository_def=self.repository, sensor_name=NAME)
        answer = self.repository.get_sensor_def(NAME)(context)
        assert isinstance(answer, SkipReason)
        self.cursor = context.cursor  # type: ignore[assignment]
        return str(answer.skip_message)


def run(instance: dg.DagsterInstance, *, good: bool, tags: dict[str, str] | None = None) -> str:
    config = {"ops": {name: {"config": {"good": good}} for name in ("reads", "asks")}}
    return nightly.execute_in_process(config, instance=instance, raise_on_error=False, tags=tags).run_id


def later(warehouse: "psycopg.Connection[Any]", interval: str) -> None:
    """Let time pass for everything that is remembered."""
    for table, columns in {
        "alerts": ("raised_at", "seen_at", "over_at"),
        "alert_deliveries": ("sent_at",),
    }.items():
        moved = ", ".join(f"{column} = {column} - interval '{interval}'" for column in columns)
        warehouse.execute(f"update bindery.{table} set {moved}".encode())


@pytest.fixture
def warehouse(settings: Any) -> "Iterator[psycopg.Connection[Any]]":
    with connect(settings, "loader", autocommit=True) as connection:
        yield connection


def test_a_failed_run_is_told_once_and_its_end_too(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_UI_URL", "https://ui.example.org/")
    watch = Watch(instance, monkeypatch, hook.url())
    assert watch.look() == "nothing to tell"
    failed = run(instance, good=False)
    assert watch.look() == "1 messages on 1 alerts"
    (post,) = hook.posts
    assert (post["title"], post["type"]) == ("Bindery (bindery): a run of nightly failed", "failure")
    assert "Failed steps: asks (RuntimeError), reads (DataRefusedError)." in post["message"]
    assert f"https://ui.example.org/runs/{failed}" in post["message"]
    run(instance, good=False)
    assert watch.look() == "nothing to tell"
    later(warehouse, "5 hours 59 minutes")
    assert watch.look() == "nothing to tell"
    later(warehouse, "2 minutes")
    watch.look()
    assert len(hook.posts) == 2, "it still holds after the time that BINDERY_ALERT_REPEAT says"
    run(instance, good=True)
    watch.look()
    assert len(hook.posts) == 2, "good again, but only just"
    later(warehouse, "6 minutes")
    watch.look()
    assert hook.titles[2] == "Bindery (bindery): over: a run of nightly failed"
    assert hook.posts[2]["type"] == "success"
    assert watch.look() == "nothing to tell"
    assert warehouse.execute("select count(*) from bindery.alerts").fetchone() == (0,)
    run(instance, good=False)
    watch.look()
    assert len(hook.posts) == 4, "new trouble after the end of the old is told at once"


def test_nothing_private_is_in_what_is_sent_or_remembered(
    instance: dg.DagsterInstance,
    warehouse: Any,
    hook: Webhook,
    box: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = Watch(
        instance, monkeypatch, hook.url(f"user:{TOKEN}@"), box.url(), f"json://user:{TOKEN}@127.0.0.1:1/{TOKEN}"
    )
    warehouse.execute(
        "insert into raw._quarantine (load_id, source, stream, record, code, message) "
        "select 1, 'people', 'all', jsonb_build_object('mail', %s::text), 'type_mismatch', %s "
        "from generate_series(1, 101)",
        (PRIVATE, f"{PRIVATE} is no number"),
    )
    run(instance, good=False)
    said = watch.look()
    kept = warehouse.execute(
        "select string_agg(a::text || d::text, ' ') from bindery.alerts a, bindery.alert_deliveries d"
    )
    texts = [str(hook.posts), *map(str, box.mails), said, caplog.text, kept.fetchone()[0], str(watch.cursor)]
    assert len(hook.posts) == len(box.mails) == 1
    assert "sink 3 (json): it doesn't answer: connection refused" in said
    assert not [text for text in texts if PRIVATE in text or TOKEN in text]
    assert "2 alerts" in hook.titles[0]
    assert "101 rows of people.all are refused" in hook.posts[0]["message"]
    assert "type_mismatch 101" in hook.posts[0]["message"]


def test_a_mail_comes_as_people_read_it(
    instance: dg.DagsterInstance, warehouse: Any, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(instance, good=False)
    Watch(instance, monkeypatch, box.url()).look()
    (mail,) = box.mails
    assert mail["Subject"] == "Bindery (bindery): a run of nightly failed"
    assert box.recipients == ["admin@example.org"]
    assert isinstance(mail, EmailMessage)
    assert "Failed steps: asks (RuntimeError)" in mail.get_content()


def test_a_sink_that_is_down_is_tried_again_and_the_others_are_not_told_twice(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as other:
        other.status = 503
        watch = Watch(instance, monkeypatch, other.url(), hook.url())
        run(instance, good=False)
        assert "sink 1 (json)" in watch.look()
        assert (len(other.posts), len(hook.posts)) == (0, 1)
        watch.look()
        assert (len(other.posts), other.attempts, len(hook.posts)) == (0, 2, 1)
        other.status = 200
        watch.look()
        watch.look()
        assert (len(other.posts), len(hook.posts)) == (1, 1)


def test_what_was_told_is_remembered_over_a_restart(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(instance, good=False)
    Watch(instance, monkeypatch, hook.url()).look()
    Watch(instance, monkeypatch, hook.url()).look()  # without its cursor even
    assert len(hook.posts) == 1


def test_two_senders_at_once_tell_it_once(
    settings: Any, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_ALERT_URLS", hook.url())
    hook.seconds = 0.5
    store.raise_alerts(warehouse, [Alert("tick:x", "tick", "the sensor x fails")])

    def one() -> None:
        with connect(settings, "loader", autocommit=True) as connection:
            deliver(connection, get_settings())

    senders = [threading.Thread(target=one) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert hook.attempts == 1


def tick(instance: dg.DagsterInstance, state: InstigatorState, status: TickStatus) -> None:
    error = (
        SerializableErrorInfo(f"{PRIVATE}\n", [], "ConnectionRefusedError") if status is TickStatus.FAILURE else None
    )
    instance.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name=state.instigator_name,
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=time.time(),
            selector_id=state.selector_id,
            error=error,
        )
    )


def instigator(name: str) -> InstigatorState:
    from dagster._core.remote_origin import (
        RegisteredCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )

    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("bindery"), "__repository__"), name
    )
    return InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE)


def test_a_sensor_whose_ticks_fail(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(instance, monkeypatch, hook.url())
    for name in ("arrivals", "gone", NAME):
        state = instigator(name)
        instance.add_instigator_state(state)
        tick(instance, state, TickStatus.FAILURE)
    watch.look()
    tick(instance, instigator("arrivals"), TickStatus.FAILURE)
    watch.look()
    assert hook.titles == ["Bindery (bindery): the sensor arrivals fails"]
    assert "(ConnectionRefusedError)" in hook.posts[0]["message"]
    tick(instance, instigator("arrivals"), TickStatus.SKIPPED)
    watch.look()
    later(warehouse, "6 minutes")
    watch.look()
    assert hook.titles[1:] == ["Bindery (bindery): over: the sensor arrivals fails"]


def freshness(instance: dg.DagsterInstance, state: FreshnessState) -> None:
    change = FreshnessStateChange(
        key=dg.AssetKey("mart"),
        new_state=state,
        previous_state=FreshnessState.PASS,
        state_change_timestamp=datetime.now(UTC).timestamp(),
    )
    instance.report_runless_asset_event(change)


def test_data_that_is_late(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(instance, monkeypatch, hook.url())
    freshness(instance, FreshnessState.WARN)
    watch.look()
    assert not hook.posts
    freshness(instance, FreshnessState.FAIL)
    watch.look()
    watch.look()
    assert hook.titles == ["Bindery (bindery): mart is late"]


def test_a_quarantine_within_its_threshold_is_no_alert(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_ALERT_QUARANTINED", "2")
    watch = Watch(instance, monkeypatch, hook.url())
    row = "insert into raw._quarantine (load_id, source, stream, code, message) values (1, 'a', 'b', 'null_key', '')"
    for _ in range(2):
        warehouse.execute(row)
    watch.look()
    assert not hook.posts
    warehouse.execute(row)
    watch.look()
    assert hook.titles == ["Bindery (bindery): 3 rows of a.b are refused"]
    warehouse.execute("update raw._quarantine set resolved_by = 2")
    watch.look()
    later(warehouse, "6 minutes")
    watch.look()
    assert hook.posts[1]["type"] == "success"


def test_a_run_that_is_tried_again_by_itself_is_no_alert_yet(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(instance, monkeypatch, hook.url())
    run(instance, good=False, tags={"dagster/will_retry": "true"})
    watch.look()
    assert not hook.posts


def test_an_old_run_that_gets_a_tag_is_not_told_again(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(instance, monkeypatch, hook.url())
    failed = run(instance, good=False)
    watch.look()
    run(instance, good=True)
    watch.look()
    instance.add_run_tags(failed, {"seen": "yes"})
    watch.look()
    assert warehouse.execute("select over_at is not null from bindery.alerts").fetchall() == [(True,)]


def test_a_run_whose_end_is_seen_late_is_taken_once(instance: dg.DagsterInstance) -> None:
    failed = run(instance, good=False)
    ahead = Cursor(datetime.now(UTC) + timedelta(seconds=60))  # another process's clock, or a slower commit
    found, cursor = finished_runs(instance, ahead, set)
    assert list(found.raised) == ["run:nightly"]
    assert failed in found.raised["run:nightly"].body
    found, cursor = finished_runs(instance, Cursor.read(cursor.write(), datetime.now(UTC)), set)
    assert not found.raised
    assert not finished_runs(instance, Cursor(datetime.now(UTC) + timedelta(minutes=10)), set)[0].raised


def test_failed_assets_are_over_when_their_steps_succeed(
    instance: dg.DagsterInstance, warehouse: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset(config_schema={"good": bool})
    def table(context: dg.AssetExecutionContext) -> None:
        assert context.op_execution_context.op_config["good"]

    @dg.asset
    def another() -> None:
        """Is built without trouble."""

    def build(asset: dg.AssetsDefinition, config: dict[str, Any]) -> None:
        dg.materialize([asset], instance=instance, run_config=config, raise_on_error=False)

    watch = Watch(instance, monkeypatch, hook.url())
    build(table, {"ops": {"table": {"config": {"good": False}}}})
    watch.look()
    assert hook.titles == ["Bindery (bindery): a run of table failed"]
    build(another, {})
    watch.look()
    assert store.open_keys(warehouse, "run") == {"run:assets:table"}
    build(table, {"ops": {"table": {"config": {"good": True}}}})
    watch.look()
    assert store.open_keys(warehouse, "run") == set()


def test_without_a_sink_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERY_ALERT_URLS", raising=False)
    script = (
        "import sys, time, dagster as dg; from dagster_project.operations.alerts.sensor import alerts; s = alerts()\n"
        "c = dg.build_sensor_context(); s(c); began = time.perf_counter()\n"
        "for _ in range(100): s(c)\n"
        "print(time.perf_counter() - began, sorted({'apprise', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, loaded = done.stdout.split(maxsplit=1)
    assert loaded.strip() == "[]"
    assert float(seconds) < 1, "10 ms a tick"


def test_the_command_that_tests_sinks(settings: Any, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    bindery = Path(sys.executable).parent / "bindery"

    def alert(*words: str, urls: str) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, "BINDERY_ALERT_URLS": urls}
        return subprocess.run([bindery, "alert", *words], env=given, capture_output=True, text=True)

    done = alert("test", urls=f"{hook.url()}\n nonsense://user:{TOKEN}@x")
    assert done.returncode == 1
    assert "sink 1 (json): told" in done.stdout
    assert "sink 2 (nonsense): not told: Apprise doesn't understand its URL" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert hook.titles == ["Bindery (bindery): test"]
    hook.status = 403
    done = alert("test", urls=hook.url(f"user:{TOKEN}@"))
    assert (done.returncode, done.stdout) == (
        1,
        "sink 1 (json): not told: it refuses the message: HTTP 403 Forbidden\n",
    )
    done = alert("test", urls="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "BINDERY_ALERT_URLS names no sink" in done.stderr
    assert "Usage" not in done.stderr
    with connect(settings, "loader", autocommit=True) as connection:
        store.raise_alerts(connection, [Alert("tick:x", "tick", "the sensor x fails")])
    listed = alert("list", urls="")
    assert "the sensor x fails" in listed.stdout


def test_a_sink_that_breaks_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import apprise

    def broken(*_: object, **__: object) -> bool:
        raise TypeError(TOKEN)

    monkeypatch.setattr(apprise.Apprise, "notify", broken)
    sent = sinks.send("json://127.0.0.1:1", "t", "b", "info")
    assert (sent.good, sent.reason) == (False, "TypeError")
