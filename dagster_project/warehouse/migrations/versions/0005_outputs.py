"""Outputs: which loads' rows were written out as Parquet, and where."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

SQL = """
create table bindery.outputs (
  source     text not null,
  stream     text not null,
  load_id    bigint not null references bindery.loads on delete cascade,
  manifest   text,                               -- where its manifest is; null where the load changed nothing
  rows       bigint not null default 0,
  bytes      bigint not null default 0,
  written_at timestamptz not null default now(),
  primary key (source, stream, load_id)
);
grant select, insert, update, delete on bindery.outputs to bindery_loader;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
