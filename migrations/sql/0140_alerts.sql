-- What was wrong with the platform, and what nobody is told of for a time. The
-- speaker's memory is ahead of these rows: see app/monitor.

CREATE TABLE alerts (
  id          text PRIMARY KEY,
  rule        text NOT NULL,
  subject     text NOT NULL,             -- a service, dependency or measure
  severity    text NOT NULL CHECK (severity IN ('critical', 'warning')),
  status      text NOT NULL CHECK (status IN ('firing', 'resolved')),
  summary     text NOT NULL,
  value       double precision NOT NULL,
  silenced    boolean NOT NULL,
  started_at  timestamptz NOT NULL,
  notified_at timestamptz,
  resolved_at timestamptz
);
CREATE INDEX alerts_status ON alerts (status);
-- +global alerts

CREATE TABLE alert_silences (
  id         text PRIMARY KEY,
  rule       text NOT NULL,              -- '' is every rule
  subject    text NOT NULL,              -- '' is every subject
  reason     text NOT NULL,
  author     text NOT NULL,
  created_at timestamptz NOT NULL,
  ends_at    timestamptz NOT NULL
);
-- +global alert_silences

-- Health counts the runs that ended just now.
CREATE INDEX research_runs_ended ON research_runs (ended_at);
