"""Uploads: an announced object may turn out to need nothing, and the inbox is looked through by state."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

SQL = """
-- passed: announced, and nothing to land: overwritten or deleted before it was read, or the same bytes as before.
alter table bindery.landed drop constraint landed_status_check;
alter table bindery.landed add constraint landed_status_check
  check (status in ('announced', 'landed', 'failed', 'passed'));
create index landed_uploads on bindery.landed (source, landing_id desc) where meta ? 'bucket';

-- What the consumer of the queue could make nothing of: the queue keeps the message, and hands it to the dead letters.
create table bindery.inbox_poison (
  message_id text primary key,
  reason     text not null,
  body       text not null,                      -- cut to 4 KiB
  receives   integer not null default 1,
  seen_at    timestamptz not null default now()
);
grant select, insert, update, delete on bindery.inbox_poison to bindery_loader;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
