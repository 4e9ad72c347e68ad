"""Changing a column's type although views read it: they are saved, dropped, and made again in the same transaction.

A view comes back with its definition, owner, options, grants and comments. What can't come back (a materialised view,
a view that no longer makes sense with the new type) stops the change, and the caller gets the reason in words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from dagster_project.ingest.load.names import quoted
from dagster_project.ingest.load.schema import Table, alter_type, sql_type
from dagster_project.ingest.load.session import Session, may_pass

LARGE: Final = 1_000_000
"""Rows from which a rewrite is announced: it takes seconds, and readers wait."""


class CannotWidenError(Exception):
    """The column keeps its type; the message says why."""


@dataclass(slots=True)
class SavedView:
    """All that makes a view what it is."""

    oid: int
    schema: str
    name: str
    owner: str
    definition: str
    options: list[str] = field(default_factory=list)
    grants: list[tuple[str | None, str, bool, str | None]] = field(default_factory=list)
    """Grantee (None: everybody), privilege, with grant option, column (None: the whole view)."""
    comments: list[tuple[str | None, str]] = field(default_factory=list)
    """Column (None: the view), text."""

    @property
    def sql(self) -> str:
        """The qualified name, quoted."""
        return quoted(self.schema, self.name)


_DEPENDENTS: Final = """
with recursive dependents(oid, depth) as (
  select distinct r.ev_class, 1
    from pg_depend d join pg_rewrite r on r.oid = d.objid
   where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
     and d.refobjid = %(table)s::oid and d.refobjsubid = any(
       select attnum from pg_attribute where attrelid = %(table)s::oid and attname = any(%(columns)s))
     and r.ev_class <> d.refobjid
  union
  select r.ev_class, p.depth + 1
    from dependents p
    join pg_depend d on d.refobjid = p.oid and d.refclassid = 'pg_class'::regclass
                    and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite r on r.oid = d.objid
   where r.ev_class <> p.oid and p.depth < 100
)
select c.oid::bigint, n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner),
       pg_get_viewdef(c.oid), coalesce(c.reloptions, '{}'),
       exists (select from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal)
         or exists (select from pg_rewrite r where r.ev_class = c.oid and r.rulename <> '_RETURN')
  from (select oid, max(depth) as depth from dependents group by oid) d
  join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace
 order by d.depth, c.oid
"""

_GRANTS: Final = """
select nullif(pg_get_userbyid(a.grantee), 'unknown (OID=0)'), a.privilege_type, a.is_grantable, null::text
  from pg_class c, aclexplode(c.relacl) a where c.oid = %(view)s::oid and a.grantee <> c.relowner
union all
select nullif(pg_get_userbyid(a.grantee), 'unknown (OID=0)'), a.privilege_type, a.is_grantable, t.attname
  from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
 where c.oid = %(view)s::oid and a.grantee <> c.relowner
"""

_COMMENTS: Final = """
select a.attname, d.description from pg_description d
  left join pg_attribute a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
 where d.classoid = 'pg_class'::regclass and d.objoid = %(view)s::oid
"""


def change_types(session: Session, table: Table, changes: dict[str, tuple[str, str]]) -> list[str]:
    """Change columns' types (column -> old, new) in place, views and all.

    Returns:
        The views that were made again.

    Raises:
        CannotWidenError: Everything is as before.
        psycopg.Error: A lock could not be had; the load is tried again.
    """
    try:
        with session.savepoint():
            views = save_views(session, table, list(changes))
            for view in reversed(views):
                _as_owner(session, view, [f"drop view {view.sql}"])
            parts = [alter_type(column, old, new) for column, (old, new) in changes.items()]
            session.run(f"alter table {table.sql} {', '.join(parts)}")
            for view in views:
                restore(session, view)
    except psycopg.Error as error:
        if may_pass(error) or session.connection.closed or session.connection.broken:
            raise
        raise CannotWidenError(" ".join(str(error).split())) from error
    for column, (_, new) in changes.items():
        table.types[column] = sql_type(new)
    return [f"{view.schema}.{view.name}" for view in views]


def save_views(session: Session, table: Table, columns: list[str]) -> list[SavedView]:
    """Read all views that depend on the columns, directly or not, each after those it reads.

    Raises:
        CannotWidenError: One of them can't be made again.
    """
    views = []
    for oid, schema, name, kind, owner, definition, options, hooks in session.all(
        _DEPENDENTS, {"table": table.oid, "columns": columns}
    ):
        if kind != "v":
            word = "materialised view" if kind == "m" else "rule of"
            raise CannotWidenError(
                f"{word} {schema}.{name} reads the column: drop it, load again, and make it again afterwards"
            )
        if hooks:
            raise CannotWidenError(f"view {schema}.{name} reads the column and has triggers or rules of its own")
        view = SavedView(oid, schema, name, owner, definition, list(options))
        view.grants = [tuple(row) for row in session.all(_GRANTS, {"view": oid})]
        view.comments = [(row[0], row[1]) for row in session.all(_COMMENTS, {"view": oid})]
        views.append(view)
    return views


def restore(session: Session, view: SavedView) -> None:
    """Make a view again as it was.

    Raises:
        CannotWidenError: Its definition doesn't fit the new types.
    """
    options = f" with ({', '.join(view.options)})" if view.options else ""
    statements = [f"create view {view.sql}{options} as {view.definition}"]
    try:
        _as_owner(session, view, statements)
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        if may_pass(error):
            raise
        said = " ".join(str(error).split())
        raise CannotWidenError(
            f"view {view.schema}.{view.name} reads the column and can't be made again: {said}"
        ) from error
    fresh = session.all(
        "select distinct nullif(pg_get_userbyid(a.grantee), 'unknown (OID=0)') from pg_class c, aclexplode(c.relacl) a "
        "where c.relname = %s and c.relnamespace = (select oid from pg_namespace where nspname = %s) "
        "and a.grantee <> c.relowner",
        [view.name, view.schema],
    )
    # Default privileges may have given more than the view had.
    statements = [f"revoke all on {view.sql} from {_grantee(grantee)}" for (grantee,) in fresh]
    for grantee, privilege, option, column in view.grants:
        columns = f" ({quoted(column)})" if column else ""
        end = " with grant option" if option else ""
        statements.append(f"grant {privilege}{columns} on {view.sql} to {_grantee(grantee)}{end}")
    for column, text in view.comments:
        what = f"column {view.sql}.{quoted(column)}" if column else f"view {view.sql}"
        statements.append(f"comment on {what} is {session.one('select quote_literal(%s::text)', [text])}")
    if statements:
        _as_owner(session, view, statements)


def _grantee(name: str | None) -> str:
    return "public" if name is None else quoted(name)


def _as_owner(session: Session, view: SavedView, statements: list[str]) -> None:
    """Execute statements as the view's owner, whom the loader may become where it is dbt's role."""
    me: Any = session.one("select current_user")
    if me != view.owner:
        session.run(f"set local role {quoted(view.owner)}")
    for statement in statements:
        session.run(statement)
    if me != view.owner:
        session.run(f"set local role {quoted(me)}" if session.one("select session_user") != me else "reset role")
