"""Columns that widen although views read them: the views are the same afterwards, or nothing has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.settings import Settings
from tests.integration.load_world import World

VIEWS = """
select c.oid::regclass::text, pg_get_userbyid(c.relowner), c.reloptions, c.relacl::text, obj_description(c.oid),
       pg_get_viewdef(c.oid),
       (select string_agg(concat(a.attname, ' ', a.attacl, ' ', col_description(c.oid, attnum)), ',' order by attnum)
          from pg_attribute a where a.attrelid = c.oid and attnum > 0)
  from pg_class c where c.relkind = 'v' and c.relnamespace in ('staging'::regnamespace, 'intermediate'::regnamespace)
 order by 1
"""


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> World:
    world = World(settings, tmp_path)
    world.load({"name": "t"}, "id,v,w\n1,7,a\n")
    return world


def test_views_on_views_come_back_as_they_were(world: World) -> None:
    world.execute(
        "transformer",
        "create view staging.one with (security_barrier = true) as select id, v, w from raw.src__t where v is not null",
        "create view staging.two as select one.v as x, other.id from staging.one join raw.src__t other using (id)",
        "create view intermediate.three as select x, id from staging.two union all select v, id from staging.one",
        "create view staging.apart as select w from raw.src__t",
        "comment on view staging.one is 'it''s one'",
        "comment on column staging.one.v is 'a value'",
        "grant select on staging.one to bindery_api with grant option",
        "revoke all on staging.two from bindery_reader",
        "grant select (x) on staging.two to bindery_api",
        "grant select on intermediate.three to public",
    )
    before = world.rows(VIEWS)
    report = world.load({"name": "t"}, "id,v,w\n2,x,b\n")
    assert report.widened == {"v": "bigint -> text"}
    assert (report.inserted, report.quarantined) == (1, 0)
    assert [warning.split(",")[0] for warning in report.warnings] == ["v is text"]
    assert world.rows(VIEWS) == before
    with world.connection("transformer") as connection:
        rows = connection.execute("select x, id from intermediate.three order by id, x").fetchall()
        assert rows == [("7", 1), ("7", 1), ("x", 2), ("x", 2)]
        (still,) = connection.execute("select pg_typeof(x)::text from staging.two limit 1").fetchall()
        assert still == ("text",)


def test_a_view_that_does_not_fit_the_wider_type_keeps_the_column_and_rows_wait(world: World) -> None:
    world.execute("transformer", "create view staging.sums as select sum(v) as total from raw.src__t")
    before = world.rows(VIEWS)
    report = world.load({"name": "t"}, "id,v,w\n2,x,b\n3,8,c\n4,9,d\n5,y,d\n")
    assert (report.inserted, report.quarantined, report.widened) == (2, 2, {})
    assert "view staging.sums reads the column and can't be made again" in report.warnings[0]
    assert world.types()["v"] == "bigint"
    assert world.rows(VIEWS) == before
    assert "could not be widened: view staging.sums" in world.one("select message from raw._quarantine limit 1")


def test_a_materialised_view_keeps_the_column(world: World) -> None:
    world.execute(
        "transformer",
        "create view staging.one as select v from raw.src__t",
        "create materialized view staging.kept as select v from staging.one",
    )
    report = world.load({"name": "t"}, "id,v,w\n2,x,b\n3,8,c\n")
    assert report.quarantined == 1
    assert "materialised view staging.kept reads the column: drop it" in report.warnings[0]


def test_a_view_with_triggers_keeps_the_column(world: World) -> None:
    world.execute(
        "transformer",
        "create function staging.f() returns trigger language plpgsql as 'begin return new; end'",
        "create view staging.one as select v from raw.src__t",
        "create trigger t instead of insert on staging.one for each row execute function staging.f()",
    )
    report = world.load({"name": "t"}, "id,v,w\n2,x,b\n3,8,c\n")
    assert report.quarantined == 1
    assert "triggers or rules" in report.warnings[0]


def test_a_view_of_somebody_else_keeps_the_column(world: World) -> None:
    world.execute("features", "create view features.theirs as select v from raw.src__t")
    report = world.load({"name": "t"}, "id,v,w\n2,x,b\n3,8,c\n")
    assert (report.inserted, report.quarantined) == (1, 1)
    assert world.types()["v"] == "bigint"


def test_a_column_without_values_gets_its_type_under_views(world: World) -> None:
    world.load({"name": "u"}, "id,v\n1,\n")
    world.execute("transformer", "create view staging.u as select id, v from raw.src__u")
    report = world.load({"name": "u"}, "id,v\n2,2024-01-01\n")
    assert report.quarantined == 0
    assert world.types("src__u")["v"] == "date"


def test_a_refused_load_leaves_views_alone(world: World) -> None:
    from dagster_project.ingest.errors import DataRefusedError

    world.execute("transformer", "create view staging.one as select v from raw.src__t")
    before = world.rows("select oid::bigint from pg_class where relname = 'one'")
    with pytest.raises(DataRefusedError):
        world.load({"name": "t", "expect": {"max_rows": 1}}, "id,v,w\n2,x,b\n")
    assert world.rows("select oid::bigint from pg_class where relname = 'one'") == before
    assert world.types()["v"] == "bigint"
