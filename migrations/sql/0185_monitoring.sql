-- Whether the database takes writes is asked of it by writing here: one row.
CREATE TABLE monitor_writes (
  id text PRIMARY KEY,
  at timestamptz NOT NULL
);
-- +global monitor_writes

-- What was not told yet of an alert, by channel, so that whoever speaks next does.
ALTER TABLE alerts ADD COLUMN owed text NOT NULL DEFAULT '';
