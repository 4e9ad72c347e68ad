"""Alerts: what is wrong, and which sink was told of it when."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

SQL = """
create table bindery.alerts (
  key       text primary key,                    -- run:<job>, late:<asset>, tick:<sensor>, quarantine:<stream>
  kind      text not null check (kind in ('run', 'late', 'tick', 'quarantine')),
  title     text not null,
  body      text not null,
  raised_at timestamptz not null default now(),
  seen_at   timestamptz not null default now(),  -- last time that it held
  over_at   timestamptz                          -- since when it doesn't; null while it holds
);

-- Sinks go by their place in BINDERY_ALERT_URLS: their URLs are secrets.
create table bindery.alert_deliveries (
  key     text not null references bindery.alerts on delete cascade,
  sink    smallint not null,
  sent_at timestamptz not null,
  primary key (key, sink)
);

grant select, insert, update, delete on bindery.alerts, bindery.alert_deliveries to bindery_loader;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
