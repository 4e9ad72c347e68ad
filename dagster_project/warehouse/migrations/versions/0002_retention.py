"""Retention: batches whose archived bytes may be gone, and the objects that are to be removed."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

SQL = """
-- Set when `archive.keep` has passed: the rows of bindery.landed stay, their bytes may be gone.
alter table bindery.batches add column purged_at timestamptz;

-- Objects that a purged batch referred to: removed as soon as no other batch needs them. Written together with the
-- marks, emptied when the files are gone, so that a purge that was killed is finished by the next.
create table bindery.purge_queue (
  uri       text primary key,
  queued_at timestamptz not null default now()
);
create index landed_by_uri on bindery.landed (uri) where uri is not null;

grant select, insert, update, delete on bindery.purge_queue to bindery_loader;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
