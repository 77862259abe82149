-- A plan that is being written. Publishing makes the next version of it; what
-- was published never changes.
CREATE TABLE plan_drafts (
  name       text PRIMARY KEY,
  body       text NOT NULL,             -- JSON, as plan_versions has it, without a version
  author     text NOT NULL,
  updated_at timestamptz NOT NULL
);
-- +global plan_drafts
