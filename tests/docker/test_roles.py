"""What the database's roles may, over the real server: each login with its own password, as its programs connect."""

from __future__ import annotations

import pytest

from tests.docker.stack import Stack

pytestmark = pytest.mark.timeout(120)


def ask(stack: Stack, role: str, query: str, database: str = "bindery") -> str:
    password = stack.secret("secrets", f"postgres_{role}_password")
    return stack.psql(f"bindery_{role}", password, query, database, check=False)


@pytest.mark.parametrize(
    ("role", "query", "said"),
    [
        ("reader", "select count(*) > 0 from marts.fct_ratings", "t"),
        ("reader", "insert into marts.fct_ratings default values", "permission denied for table fct_ratings"),
        ("reader", "delete from raw.uploads__ratings", "permission denied"),
        ("reader", "create table marts.mine (x int)", "permission denied for schema marts"),
        ("reader", "create table public.mine (x int)", "permission denied for schema public"),
        ("loader", "delete from marts.fct_ratings", "permission denied"),
        ("loader", "truncate marts.fct_ratings", "permission denied"),
        ("loader", "drop table marts.fct_ratings", "permission denied"),
        ("loader", "create table marts.mine (x int)", "permission denied for schema marts"),
        ("transformer", "delete from raw.uploads__ratings", "permission denied for table uploads__ratings"),
        ("transformer", "delete from bindery.loads", "permission denied"),
        ("dagster", "select 1 from marts.fct_ratings", "permission denied"),
        ("reader", "set role bindery_owner", 'permission denied to set role "bindery_owner"'),
        ("loader", "create role mine superuser", "permission denied to create role"),
        (
            "loader",
            "copy raw.uploads__ratings to program 'id'",
            "permission denied to COPY to or from an external program",
        ),
        ("reader", "select pg_read_file('/run/bindery/admin/postgres_password')", "permission denied for function"),
    ],
)
def test_a_role_does_its_work_and_no_other(stack: Stack, role: str, query: str, said: str) -> None:
    answer = ask(stack, role, query)
    assert said in answer
    assert ("error" in answer.lower()) is (said != "t")


@pytest.mark.parametrize("role", ["reader", "loader", "transformer", "api"])
def test_dagsters_storage_is_dagsters_alone(stack: Stack, role: str) -> None:
    answer = ask(stack, role, "select count(*) from runs", "dagster")
    assert "permission denied" in answer


@pytest.mark.parametrize("password", ["", "postgres", "bindery", "password"])
def test_no_password_that_people_try_opens_the_database(stack: Stack, password: str) -> None:
    for user in ("postgres", "bindery_owner", "bindery_loader", "bindery_dagster"):
        assert "password" in stack.psql(user, password, "select 1", check=False)


def test_it_is_the_server_that_was_asked_for(stack: Stack) -> None:
    names = ("server_version_num", "password_encryption", "timezone")
    settings = ", ".join(f"current_setting('{name}') as {name}" for name in names)
    rows = stack.rows(f"select {settings}, (select count(*) from pg_extension where extname = 'vector') as vectors")
    assert rows[0][1:] == ["scram-sha-256", "UTC", 1]
    assert rows[0][0].startswith("17")
