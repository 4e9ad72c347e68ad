"""Who may do what: every role against every schema, each privilege used and not just looked up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dagster_project import warehouse
from dagster_project.settings import ROLES, Role, Settings
from dagster_project.warehouse.grants import SCHEMAS

WRITES = ("insert", "update", "delete")

# Schema -> role -> what it may do with a table that the schema's owner made. Who is not named may do nothing.
ALLOWED: dict[str, dict[Role, set[str]]] = {
    "raw": {
        "loader": {"select", *WRITES, "create", "truncate"},
        "transformer": {"select"},
        "features": {"select"},
        "reader": {"select"},
        "owner": {"create"},
    },
    "staging": {
        "transformer": {"select", *WRITES, "create", "truncate"},
        "features": {"select"},
        "reader": {"select"},
    },
    "intermediate": {"transformer": {"select", *WRITES, "create", "truncate"}},
    "snapshots": {"transformer": {"select", *WRITES, "create", "truncate"}},
    "marts": {
        "transformer": {"select", *WRITES, "create", "truncate"},
        "features": {"select"},
        "reader": {"select"},
        "api": {"select"},
    },
    "features": {
        "features": {"select", *WRITES, "create", "truncate"},
        "reader": {"select"},
        "api": {"select"},
    },
    "app": {"owner": {"select", *WRITES, "create", "truncate"}, "api": {"select", *WRITES}},
    "bindery": {"owner": {"select", *WRITES, "create", "truncate"}},
}
STATEMENTS = {
    "select": "select * from {table}",
    "insert": "insert into {table} values (2)",
    "update": "update {table} set n = 3 where n = 1",
    "delete": "delete from {table} where n = 1",
    "truncate": "truncate {table}",
    "create": "create table {schema}.made_by_{role} (n int)",
}
WAREHOUSE_ROLES: tuple[Role, ...] = tuple(role for role in ROLES if role != "dagster")


@pytest.fixture
def opened(settings: Settings) -> Iterator[dict[str, psycopg.Connection[Any]]]:
    """One connection per role of the warehouse, none in autocommit."""
    connections: dict[str, psycopg.Connection[Any]] = {
        role: warehouse.connect(settings, role) for role in WAREHOUSE_ROLES
    }
    yield connections
    for connection in connections.values():
        connection.close()


def allowed(connection: psycopg.Connection[Any], statement: str) -> bool:
    """Run a statement and take it back; False where a privilege is missing. Other errors are errors."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def test_every_role_may_do_its_work_and_nothing_else(opened: dict[str, psycopg.Connection[Any]]) -> None:
    for schema, owner in SCHEMAS.items():
        with opened[owner].transaction():
            opened[owner].execute(f"create table {schema}.probe (n int primary key)")
            opened[owner].execute(f"insert into {schema}.probe values (1)")
    wrong = []
    for schema in SCHEMAS:
        for role in WAREHOUSE_ROLES:
            expected = ALLOWED[schema].get(role, set())
            for action, statement in STATEMENTS.items():
                sql = statement.format(table=f"{schema}.probe", schema=schema, role=role)
                if allowed(opened[role], sql) != (action in expected):
                    wrong.append(f"{role} {'must' if action in expected else 'must not'} {action} in {schema}")
    assert wrong == []


# Our own tables -> role -> what it may do.
BOOKKEEPING: dict[str, dict[Role, set[str]]] = {
    **{
        f"bindery.{name}": {"loader": {"select", "delete"}}
        for name in (
            *("batches", "landed", "load_batches", "state", "columns", "purge_queue"),
            *("alerts", "alert_deliveries", "inbox_poison", "outputs"),
        )
    },
    "bindery.loads": {"loader": {"select", "delete"}, "transformer": {"select"}, "reader": {"select"}},
    "bindery.load_streams": {"loader": {"select", "delete"}, "transformer": {"select"}, "reader": {"select"}},
    "bindery.dbt_nodes": {"loader": {"select", "delete"}, "transformer": {"select", "delete"}},
    "raw._quarantine": {
        "loader": {"select", "delete"},
        "transformer": {"select"},
        "features": {"select"},
        "reader": {"select"},
    },
    "bindery.alembic_version": {},
    "bindery.bootstrap": {},
}


def test_bookkeeping_is_open_to_whom_it_concerns(opened: dict[str, psycopg.Connection[Any]]) -> None:
    wrong = []
    for table, roles in BOOKKEEPING.items():
        for role in WAREHOUSE_ROLES:
            expected = {"select", "delete"} if role == "owner" else roles.get(role, set())
            for action in ("select", "delete"):
                verb = "select * from" if action == "select" else "delete from"
                if allowed(opened[role], f"{verb} {table}") != (action in expected):
                    wrong.append(f"{role} {'must' if action in expected else 'must not'} {action} {table}")
    assert wrong == []


def test_every_table_of_ours_is_in_the_matrix(opened: dict[str, psycopg.Connection[Any]]) -> None:
    rows = opened["owner"].execute(
        "select schemaname || '.' || tablename from pg_tables where schemaname = any(%s)", (list(SCHEMAS),)
    )
    assert {row[0] for row in rows} == set(BOOKKEEPING)


def test_the_loader_inserts_with_generated_keys(opened: dict[str, psycopg.Connection[Any]]) -> None:
    row = opened["loader"].execute(
        "insert into bindery.batches (source, stream, fingerprint) values ('s', 't', 'f') returning batch_id"
    )
    assert row.fetchone() == (1,)
    opened["loader"].rollback()


def test_the_loader_widens_a_column_under_a_view_of_dbt(opened: dict[str, psycopg.Connection[Any]]) -> None:
    loader, transformer = opened["loader"], opened["transformer"]
    loader.execute("create table raw.t (v bigint)")
    loader.commit()
    transformer.execute("create view staging.v as select v from raw.t")
    transformer.commit()
    with pytest.raises(psycopg.errors.FeatureNotSupported), loader.transaction():
        loader.execute("alter table raw.t alter column v type numeric")
    assert not allowed(loader, "drop view staging.v"), "only after taking on the role"
    with loader.transaction():
        loader.execute("set local role bindery_transformer")
        loader.execute("drop view staging.v")
        loader.execute("reset role")
        loader.execute("alter table raw.t alter column v type numeric")
        loader.execute("set local role bindery_transformer")
        loader.execute("create view staging.v as select v from raw.t")
    assert opened["reader"].execute("select * from staging.v").fetchall() == []
    row = transformer.execute("select viewowner from pg_views where viewname = 'v'").fetchone()
    assert row == ("bindery_transformer",)


def test_no_other_role_may_take_on_another(opened: dict[str, psycopg.Connection[Any]]) -> None:
    pairs = {
        (role, other)
        for role in WAREHOUSE_ROLES
        for other in ROLES
        if role != other and allowed(opened[role], f"set local role bindery_{other}")
    }
    assert pairs == {("loader", "transformer")}


@pytest.mark.parametrize("role", ROLES)
def test_roles_have_no_power_over_the_server(settings: Settings, role: Role) -> None:
    with warehouse.connect(settings, role, autocommit=True) as connection:
        row = connection.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles "
            "where rolname = current_user"
        ).fetchone()
        assert row == (False,) * 5
        for statement in ("create database x", "create role x", "create schema x", "create table public.x (n int)"):
            if role in {"owner", "dagster"} and ("public" in statement or "schema" in statement):
                continue  # its own database
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_databases_let_in_only_their_own_roles(settings: Settings) -> None:
    with pytest.raises(warehouse.WarehouseUnavailableError, match="permission denied for database"):
        warehouse.connect(settings, "dagster", settings.database_name)
    for role in WAREHOUSE_ROLES:
        with pytest.raises(warehouse.WarehouseUnavailableError, match="permission denied for database"):
            warehouse.connect(settings, role, settings.dagster_database)


def test_only_bulk_writers_have_temporary_tables(opened: dict[str, psycopg.Connection[Any]]) -> None:
    may = {role for role in WAREHOUSE_ROLES if allowed(opened[role], "create temporary table x (n int)")}
    assert may == {"owner", "loader", "transformer", "features"}


def test_every_role_may_use_vectors(opened: dict[str, psycopg.Connection[Any]]) -> None:
    for connection in opened.values():
        row = connection.execute("select '[1,2]'::vector <-> '[1,4]'::vector").fetchone()
        assert row == (2.0,)
