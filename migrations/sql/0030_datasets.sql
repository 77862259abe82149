-- Datasets: lists of named entities, the imports that fill them, and the
-- tenant's matching settings. What readers see of a dataset is the entries of
-- its visible imports, so an import of any size appears in one update.

CREATE TABLE datasets (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  id          text NOT NULL,
  name        text NOT NULL,
  description text NOT NULL DEFAULT '',
  publisher   text NOT NULL DEFAULT '',
  source_url  text NOT NULL DEFAULT '',
  version     bigint NOT NULL DEFAULT 0,  -- changes with every change of what readers see
  entry_count bigint NOT NULL DEFAULT 0,  -- visible entries
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  deleted_at  timestamptz,                -- gone for readers; its rows go with a job
  PRIMARY KEY (tenant_id, id)
);
-- +isolate datasets

CREATE TABLE dataset_imports (
  tenant_id     text NOT NULL,
  id            text NOT NULL,
  dataset_id    text NOT NULL,
  mode          text NOT NULL CHECK (mode IN ('append', 'replace')),
  dry_run       boolean NOT NULL,
  filename      text NOT NULL,
  media_type    text NOT NULL,
  mapping       text NOT NULL DEFAULT '{}', -- the caller's, by column
  size_bytes    bigint NOT NULL,
  status        text NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  visible       boolean NOT NULL DEFAULT false,
  attempts      bigint NOT NULL DEFAULT 0,
  rows_read     bigint NOT NULL DEFAULT 0, -- the checkpoint: rows of the file that are dealt with
  rows_accepted bigint NOT NULL DEFAULT 0,
  rows_rejected bigint NOT NULL DEFAULT 0,
  issues        bigint NOT NULL DEFAULT 0, -- found; fewer may be stored
  bytes_read    bigint NOT NULL DEFAULT 0,
  rows_taken    bigint NOT NULL DEFAULT 0, -- of the level dataset_rows, while not ended
  format        text NOT NULL DEFAULT '',
  encoding      text NOT NULL DEFAULT '',
  delimiter     text NOT NULL DEFAULT '',
  columns       text NOT NULL DEFAULT '[]',
  error_code    text NOT NULL DEFAULT '',
  error_message text NOT NULL DEFAULT '',
  created_at    timestamptz NOT NULL,
  started_at    timestamptz,
  ended_at      timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, dataset_id) REFERENCES datasets (tenant_id, id)
);
CREATE INDEX dataset_imports_dataset ON dataset_imports (tenant_id, dataset_id, id);
-- +isolate dataset_imports

CREATE TABLE dataset_issues (
  tenant_id  text NOT NULL,
  import_id  text NOT NULL,
  seq        bigint NOT NULL,
  line       bigint NOT NULL,
  column_name text NOT NULL,
  code       text NOT NULL,
  value      text NOT NULL,
  message    text NOT NULL,
  severity   text NOT NULL,
  PRIMARY KEY (tenant_id, import_id, seq),
  FOREIGN KEY (tenant_id, import_id) REFERENCES dataset_imports (tenant_id, id)
);
-- +isolate dataset_issues

CREATE TABLE dataset_entries (
  tenant_id   text NOT NULL,
  id          text NOT NULL,
  dataset_id  text NOT NULL,
  import_id   text NOT NULL,
  line        bigint NOT NULL,
  name        text NOT NULL,
  search      text NOT NULL,              -- folded name and aliases, for search within the list
  country_key text NOT NULL,              -- '|CN|IR|'
  aliases     text NOT NULL,
  countries   text NOT NULL,
  cities      text NOT NULL,
  latitude    double precision,
  longitude   double precision,
  schema_type text NOT NULL,
  external_id text NOT NULL,
  description text NOT NULL,
  source_url  text NOT NULL,
  published   text NOT NULL,
  updated     text NOT NULL,
  properties  text NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, import_id) REFERENCES dataset_imports (tenant_id, id)
);
CREATE INDEX dataset_entries_import ON dataset_entries (tenant_id, import_id, id);
-- +isolate dataset_entries

CREATE TABLE matching_settings (
  tenant_id  text PRIMARY KEY REFERENCES tenants (id),
  version    bigint NOT NULL,             -- part of every cached answer's key
  body       text NOT NULL DEFAULT '',    -- JSON; empty is the defaults
  updated_at timestamptz NOT NULL
);
-- +isolate matching_settings
