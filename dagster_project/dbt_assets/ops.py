"""The ops that build dbt's models: from the selected assets to dbt's nodes, from dbt's log to Dagster's events."""

# No postponed annotations here: Dagster reads those of `context` and `config` as they are.
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import dagster as dg

from dagster_project.components.naming import COMPUTE_TAG
from dagster_project.components.platform import RESOURCE
from dagster_project.dbt_assets.log import Finished, Line
from dagster_project.dbt_assets.manifest import Manifest, Node
from dagster_project.dbt_assets.plan import Step, cut
from dagster_project.dbt_assets.specs import asset_key, asset_spec, check_name, check_spec, keys_of

if TYPE_CHECKING:
    import psycopg

    from dagster_project.dbt_assets.failed import CompiledCode
    from dagster_project.settings import Role, Settings

RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
_PASSING = (
    "could not connect",
    "connection refused",
    "server closed the connection",
    "terminating connection",
    "the database system is",
    "deadlock detected",
    "could not serialize",
    "too many clients",
    "lock timeout",
)
"""Words of database errors that may pass; dbt gives no codes."""

LOOK_TIMEOUT = "set statement_timeout = '5s'"
"""For what the UI shows of a relation: a sample that takes longer isn't worth it."""

Event = dg.MaterializeResult[Any] | dg.AssetCheckResult


class DbtConfig(dg.Config):
    """What one run may ask of dbt."""

    full_refresh: bool = False
    """Build incremental models from nothing."""


class DbtPlatform(Protocol):
    """What the ops need of the resource ``platform``."""

    full_refresh: bool

    @property
    def settings(self) -> "Settings":
        """Give the settings."""
        ...

    @property
    def database(self) -> str | None:
        """Name the database of this run, None for the warehouse itself."""
        ...

    def connect(self, role: "Role", *, autocommit: bool = False) -> "psycopg.Connection[Any]":
        """Open a connection to the database of this run."""
        ...


def dbt_definitions(manifest: Manifest, project_dir: Path) -> dg.Definitions:
    """Build the assets and checks of the project."""
    steps, loose = cut(manifest)
    assets = [_step_assets(step, manifest, project_dir) for step in steps]
    checks = [_loose_checks(loose, manifest)] if loose else []
    return dg.Definitions(assets=assets, asset_checks=checks)


def _step_assets(step: Step, manifest: Manifest, project_dir: Path) -> dg.AssetsDefinition:
    specs = [asset_spec(node, manifest, project_dir) for node in step.assets.values()]
    tests = [check_spec(test, manifest.assets[target], manifest) for test, target in step.tests.values()]

    @dg.multi_asset(
        name=step.name,
        specs=specs,
        check_specs=tests,
        can_subset=True,
        required_resource_keys={RESOURCE},
        op_tags={COMPUTE_TAG: "small", "bindery/image": "dbt"},
        retry_policy=RETRIES,
    )
    def build(context: dg.AssetExecutionContext, config: DbtConfig) -> Iterator[Event]:
        wanted = {
            node.unique_id for key, node in keys_of(step.assets.values()).items() if key in context.selected_asset_keys
        }
        wanted |= _chosen(step.tests, manifest, context.selected_asset_check_keys)
        yield from _Build(context, manifest, step, config.full_refresh).run(wanted)

    return build


def _loose_checks(loose: dict[str, tuple[Node, str]], manifest: Manifest) -> dg.AssetChecksDefinition:
    step = Step("dbt_comparisons", frozenset(), tests=loose)

    @dg.multi_asset_check(
        name=step.name,
        specs=[check_spec(test, manifest.assets[target], manifest) for test, target in loose.values()],
        can_subset=True,
        required_resource_keys={RESOURCE},
        op_tags={COMPUTE_TAG: "small", "bindery/image": "dbt"},
        retry_policy=RETRIES,
    )
    def compare(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        chosen = _chosen(loose, manifest, context.selected_asset_check_keys)
        for event in _Build(cast("dg.AssetExecutionContext", context), manifest, step, False).run(chosen):
            assert isinstance(event, dg.AssetCheckResult)
            yield event

    return compare


def _chosen(
    tests: dict[str, tuple[Node, str]], manifest: Manifest, keys: "set[dg.AssetCheckKey] | frozenset[dg.AssetCheckKey]"
) -> set[str]:
    return {
        uid
        for uid, (test, target) in tests.items()
        if dg.AssetCheckKey(asset_key(manifest.assets[target]), check_name(test)) in keys
    }


@dataclass
class _Build:
    """One attempt of one step."""

    context: dg.AssetExecutionContext
    manifest: Manifest
    step: Step
    full_refresh: bool
    ended: dict[str, Finished] = field(default_factory=dict)
    code: "CompiledCode | None" = None

    def run(self, wanted: set[str]) -> Iterator[Event]:
        """Build the wanted nodes but those that this run already has; then say what went wrong.

        Raises:
            dg.Failure: A node failed, or a test of severity error.
        """
        from dagster_project.dbt_assets import memory
        from dagster_project.dbt_assets.failed import CompiledCode
        from dagster_project.dbt_assets.invocation import Invocation
        from dagster_project.dbt_assets.program import DbtError, work_folder

        platform = cast("DbtPlatform", getattr(self.context.resources, RESOURCE))
        run_id = memory.first_run(self.context)
        resumes = self.context.retry_number > 0 or self.context.run.run_id != run_id
        with platform.connect("transformer", autocommit=True) as connection:
            if not resumes:
                memory.forget(connection, run_id, wanted)
            kept = {uid: status for uid, status in memory.built(connection, run_id).items() if uid in wanted}
            for uid, status in kept.items():
                self.context.log.info(f"{self._name(uid)}: kept from an earlier try of this run")
                yield self._event(connection, Finished(uid, status), kept_from=run_id)
            rest = [self.manifest.nodes[uid] for uid in sorted(wanted - kept.keys())]
            if not rest:
                return
            with work_folder(platform.settings, platform.database) as folder:
                self.code = CompiledCode(platform.settings, folder)
                dbt = Invocation(
                    platform.settings,
                    platform.database,
                    folder,
                    rest,
                    full_refresh=self.full_refresh or platform.full_refresh,
                    watch=self._log,
                )
                try:
                    for finished in dbt.run():
                        self.ended[finished.unique_id] = finished
                        if finished.unique_id not in wanted:
                            continue
                        if finished.good:
                            memory.remember(connection, run_id, finished.unique_id, finished.status)
                        if finished.good or self._is_verdict(finished):
                            yield self._event(connection, finished)
                except DbtError as error:
                    raise dg.Failure(str(error), metadata={"exit_code": 2}, allow_retries=False) from error
                if dbt.code:
                    self._keep_code(dbt.results)
        self._judge(dbt, {node.unique_id for node in rest})

    def _is_verdict(self, finished: Finished) -> bool:
        """Say whether it is a test that ran and found something."""
        return finished.unique_id in self.step.tests and finished.status in {"fail", "warn"}

    def _event(self, connection: "psycopg.Connection[Any]", finished: Finished, kept_from: str | None = None) -> Event:
        kept = {"kept_from_run": kept_from} if kept_from else {}
        if finished.unique_id in self.step.tests:
            test, target = self.step.tests[finished.unique_id]
            return dg.AssetCheckResult(
                check_name=check_name(test),
                asset_key=asset_key(self.manifest.assets[target]),
                passed=finished.good,
                severity=dg.AssetCheckSeverity.ERROR if finished.status == "fail" else dg.AssetCheckSeverity.WARN,
                description=None if finished.message is None else self._told(finished.message),
                metadata={"failing_rows": finished.failures or 0, "seconds": round(finished.seconds, 3), **kept},
            )
        node = self.step.assets[finished.unique_id]
        return dg.MaterializeResult(
            asset_key=asset_key(node), metadata={**relation_metadata(connection, node, finished), **kept}
        )

    def _keep_code(self, results: dict[str, Finished]) -> None:
        """Keep the statements of what failed where a person can read them: as files, or in the log."""
        assert self.code is not None
        self.code.keep()
        for uid, end in results.items():
            node = self.manifest.nodes.get(uid)
            if end.status in {"error", "fail"} and node is not None:
                statement = self.code.statement(node.original_file_path)
                if statement is not None:
                    self.context.log.error(f"{self._name(uid)}, compiled:\n{statement}")

    def _told(self, text: str) -> str:
        return text if self.code is None else self.code.told(text)

    def _log(self, line: Line) -> None:
        if not line.message.strip():
            return
        if line.level == "error":
            self.context.log.error(self._told(line.message))
        elif line.level == "warn":
            self.context.log.warning(self._told(line.message))
        elif line.finished is not None:
            self.context.log.info(line.message)
        else:
            self.context.log.debug(line.message)

    def _name(self, uid: str) -> str:
        node = self.manifest.nodes.get(uid)
        return f"{node.name} ({node.original_file_path})" if node else uid

    def _judge(self, dbt: Any, asked: set[str]) -> None:
        """Fail the step where something of it isn't as it should be."""
        results: dict[str, Finished] = {**self.ended, **dbt.results}
        broken = [end for uid, end in results.items() if uid in asked and end.status in {"error", "fail"}]
        skipped = [uid for uid, end in results.items() if uid in asked and end.status == "skipped"]
        silent = sorted(asked - results.keys()) if dbt.code else []
        if not (broken or skipped or silent or dbt.code not in {0, 1}):
            return
        if dbt.code < 0:
            told = f"dbt was killed by signal {-dbt.code}"
            raise dg.Failure(f"{self.step.name}: {told}", metadata={"exit_code": 1}, allow_retries=self._tries_left)
        lines = [f"{self._name(end.unique_id)}: {end.status}: {self._told(_one(end.message))}" for end in broken]
        if not broken:
            lines += list(map(self._told, dbt.errors)) or [f"dbt ended with code {dbt.code} and no results"]
        if skipped:
            lines.append("not built because of that: " + ", ".join(self.manifest.nodes[uid].name for uid in skipped))
        text = "\n".join(lines)
        raise dg.Failure(
            f"{self.step.name}: {len(broken) or 'no'} of {len(asked)} nodes failed\n{text}",
            metadata={"failed": len(broken), "skipped": len(skipped), "exit_code": self._exit_code(broken)},
            # What the data or the SQL got wrong stays wrong; a lost connection doesn't.
            allow_retries=self._tries_left and any(word in text.lower() for word in _PASSING),
        )

    @property
    def _tries_left(self) -> bool:
        """Whether the policy allows another try. After the last one Dagster would keep only its own words."""
        return bool(self.context.retry_number < RETRIES.max_retries)

    def _exit_code(self, broken: list[Finished]) -> int:
        """Give 2 where dbt refused the project, 5 where the database refused a statement, 4 where only tests failed."""
        if not broken:
            return 2
        return 5 if any(end.status == "error" for end in broken) else 4


def _one(message: str | None) -> str:
    return "; ".join(line.strip() for line in (message or "no message").splitlines() if line.strip())


def relation_metadata(connection: "psycopg.Connection[Any]", node: Node, finished: Finished) -> dict[str, Any]:
    """Describe a relation after it was built: rows, columns, a few of them to look at."""
    import psycopg
    from psycopg import sql

    from dagster_project.components.facts import rate
    from dagster_project.components.report import preview, table_columns

    schema = node.schema or "public"
    metadata: dict[str, Any] = {"seconds": round(finished.seconds, 3), "status": finished.status}
    if finished.rows is not None:
        metadata |= {"rows_written": finished.rows, "rows_per_second": rate(finished.rows, finished.seconds)}
    with connection.cursor() as cursor:
        columns = table_columns(cursor, schema, node.table)
        if not columns:
            return metadata
        stated = {column.name: column for column in node.columns.values()}
        metadata["dagster/column_schema"] = dg.TableSchema(
            columns=[
                dg.TableColumn(name, kind, description=(stated[name].description or None) if name in stated else None)
                for name, kind in columns
            ]
        )
        try:
            cursor.execute(LOOK_TIMEOUT)
            if node.materialized != "view":  # counting a view would run it
                cursor.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, node.table)))
                metadata["dagster/row_count"] = int((cursor.fetchone() or (0,))[0])
            metadata["sample"] = dg.MetadataValue.md(preview(cursor, schema, node.table, [name for name, _ in columns]))
        except psycopg.Error as error:
            # Looking at a view runs it. What is wrong with its rows is for tests to say; it was built.
            metadata["sample"] = f"not shown: {error}"
    return metadata
