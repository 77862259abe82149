-- Match jobs: a file or a list, row by row, against lists; and their answers.
CREATE TABLE match_jobs (
  tenant_id     text NOT NULL REFERENCES tenants (id),
  id            text NOT NULL,
  status        text NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  source_id     text NOT NULL,              -- the dataset that is read; '' for a file
  source        text NOT NULL,              -- its imports as they were visible at the start
  options       text NOT NULL,              -- what to match against, and how
  filename      text NOT NULL,
  media_type    text NOT NULL,
  sheet         text NOT NULL,
  mapping       text NOT NULL,
  size_bytes    bigint NOT NULL,
  attempts      bigint NOT NULL DEFAULT 0,  -- since the last checkpoint
  rows_total    bigint NOT NULL DEFAULT 0,  -- of a dataset; a file tells it at its end
  rows_read     bigint NOT NULL DEFAULT 0,  -- the checkpoint: rows that are answered or rejected
  place         text NOT NULL DEFAULT '',   -- of a dataset: the last entry dealt with
  rows_matched  bigint NOT NULL DEFAULT 0,  -- with at least one match
  rows_rejected bigint NOT NULL DEFAULT 0,
  matches       bigint NOT NULL DEFAULT 0,
  bytes_read    bigint NOT NULL DEFAULT 0,
  error_code    text NOT NULL DEFAULT '',
  error_detail  text NOT NULL DEFAULT '',
  created_at    timestamptz NOT NULL,
  started_at    timestamptz,
  ended_at      timestamptz,
  deleted_at    timestamptz,                -- gone for readers; its rows go with a job
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX match_jobs_source ON match_jobs (tenant_id, source_id, status);
-- +isolate match_jobs

CREATE TABLE match_results (
  tenant_id text NOT NULL,
  job_id    text NOT NULL,
  seq       bigint NOT NULL,
  line      bigint NOT NULL,
  query     text NOT NULL,                  -- JSON
  matches   text NOT NULL,                  -- JSON; entries as they were then
  issues    text NOT NULL,                  -- JSON; a row that has any was rejected
  PRIMARY KEY (tenant_id, job_id, seq),
  FOREIGN KEY (tenant_id, job_id) REFERENCES match_jobs (tenant_id, id)
);
-- +isolate match_results
