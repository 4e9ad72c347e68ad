"""Bookkeeping of the ingestion engine: batches, landing log, load log, state, schema map, and the quarantine."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

SQL = """
create table bindery.batches (
  batch_id        bigint generated always as identity primary key,
  source          text not null,
  stream          text not null,
  partition       text not null default '',
  status          text not null default 'open' check (status in ('open', 'sealed', 'abandoned')),
  fingerprint     text not null,                 -- of the card's fetch part; an open batch of another is abandoned
  cursor_start    jsonb,                         -- where this batch started reading
  cursor_proposed jsonb,                         -- where the next one starts, once this is sealed
  position        integer not null default 0,    -- objects landed so far
  resume          jsonb,                         -- what the fetcher needs to go on (next request, seen pages)
  full_refresh    boolean not null default false,
  stats           jsonb not null default '{}',   -- requests, retries, bytes, not_found, ...
  error           text,                          -- why the last attempt stopped, null while none did
  opened_at       timestamptz not null default now(),
  sealed_at       timestamptz
);
create unique index batches_one_open on bindery.batches (source, stream, partition) where status = 'open';
create index batches_sealed on bindery.batches (source, stream, partition, batch_id) where status = 'sealed';

create table bindery.landed (
  landing_id   bigint generated always as identity primary key,
  batch_id     bigint references bindery.batches on delete cascade,
  source       text not null,
  stream       text not null,
  status       text not null default 'landed' check (status in ('announced', 'landed', 'failed')),
  position     integer,                          -- order inside the batch
  fingerprint  text not null,                    -- of the request, or of the file's observation
  origin       text not null,                    -- URL or path it came from, without secrets
  uri          text,                             -- where the bytes are kept, relative to the landing root
  sha256       text,
  size         bigint,                           -- bytes as received
  media_type   text,
  meta         jsonb not null default '{}',      -- status, etag, last_modified, encoding, mtime, parent record, ...
  attempt      integer not null default 1,       -- of an announced object: part of its run key
  observed_at  timestamptz not null default now(),
  unique (batch_id, fingerprint)
);
create index landed_by_origin on bindery.landed (source, stream, origin, landing_id desc);
create index landed_announced on bindery.landed (source, landing_id) where status = 'announced';

create table bindery.loads (
  load_id     bigint generated always as identity primary key,
  source      text not null,
  kind        text not null check (kind in ('load', 'replay', 'frame')),
  status      text not null check (status in ('committed', 'failed')),
  started_at  timestamptz not null,
  finished_at timestamptz not null default clock_timestamp(),
  run_id      text,                              -- Dagster's, where there is one
  code        text,                              -- version that loaded
  error       text
);
create index loads_by_source on bindery.loads (source, load_id desc);

create table bindery.load_streams (
  load_id     bigint not null references bindery.loads on delete cascade,
  source      text not null,
  stream      text not null,
  partition   text not null default '',
  rows_read   bigint not null default 0,
  inserted    bigint not null default 0,
  updated     bigint not null default 0,
  unchanged   bigint not null default 0,
  deleted     bigint not null default 0,
  duplicates  bigint not null default 0,         -- rows of one key within the load, settled by the tie-break
  quarantined bigint not null default 0,
  bytes       bigint not null default 0,
  seconds     double precision not null default 0,
  detail      jsonb not null default '{}',       -- conflicts, replaced NULs, widened columns, new columns, ...
  primary key (load_id, source, stream, partition)
);
create index load_streams_by_stream on bindery.load_streams (source, stream, load_id desc);

-- "taken" marks: a replay is a second link between loads and batches.
create table bindery.load_batches (
  load_id  bigint not null references bindery.loads on delete cascade,
  batch_id bigint not null references bindery.batches on delete cascade,
  primary key (batch_id, load_id)
);

create table bindery.state (
  source     text not null,
  stream     text not null,
  partition  text not null default '',
  parent     text not null default '',
  cursor     jsonb,
  load_id    bigint not null,
  updated_at timestamptz not null default now(),
  primary key (source, stream, partition, parent)
);

-- The schema map: which name of the source became which column, and with which type.
create table bindery.columns (
  source      text not null,
  stream      text not null,
  source_name text not null,
  column_name text not null,
  data_type   text not null,
  declared    boolean not null default false,
  position    integer not null,
  load_id     bigint not null,                   -- that added or last changed it
  primary key (source, stream, source_name),
  unique (source, stream, column_name)
);

-- What dbt nodes a run has already built: a retry selects the others.
create table bindery.dbt_nodes (
  run_id      text not null,                     -- the root run
  unique_id   text not null,
  status      text not null,
  finished_at timestamptz not null default now(),
  primary key (run_id, unique_id)
);

create table raw._quarantine (
  quarantine_id bigint generated always as identity primary key,
  load_id       bigint not null,
  source        text not null,
  stream        text not null,
  landing_id    bigint,
  ordinal       bigint,                          -- row number inside the landed object, from 1
  record        jsonb,                           -- the row as read, null where it couldn't be read as a row
  line          text,                            -- the text as read, where there is no record
  code          text not null,                   -- type_mismatch, null_key, ragged_row, not_text, contract_column, ...
  column_name   text,
  message       text not null,
  created_at    timestamptz not null default now(),
  resolved_by   bigint                           -- the load (replay) that took the row after a fix
);
create index quarantine_by_stream on raw._quarantine (source, stream, load_id) where resolved_by is null;

-- Time of each row by join: raw tables carry only _load_id.
create view bindery.load_times as
  select load_id, source, started_at, finished_at from bindery.loads where status = 'committed';

-- Who may do what. The version table is the owner's alone.
grant select, insert, update, delete on
  bindery.batches, bindery.landed, bindery.loads, bindery.load_streams, bindery.load_batches, bindery.state,
  bindery.columns, bindery.dbt_nodes, raw._quarantine
  to bindery_loader;
grant select on bindery.load_times to bindery_loader;
grant select, insert, update, delete on bindery.dbt_nodes to bindery_transformer;
grant select on bindery.loads, bindery.load_streams, bindery.load_times to bindery_transformer, bindery_reader;
grant select on raw._quarantine to bindery_transformer, bindery_features, bindery_reader;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(SQL)
