-- Research runs: the run, its paid steps, its numbered events, and the list
-- that a dataset search works through.

CREATE TABLE research_runs (
  tenant_id     text NOT NULL REFERENCES tenants (id),
  id            text NOT NULL,
  kind          text NOT NULL CHECK (kind IN ('relations', 'entity', 'dataset')),
  mode          text NOT NULL,
  title         text NOT NULL,
  status        text NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  priority      bigint NOT NULL,
  request       text NOT NULL,               -- JSON, as it was asked
  salt          text NOT NULL,               -- random: source ids and the marks of prompts come from it
  previous_id   text NOT NULL DEFAULT '',    -- the run that this one repeats
  dispatched    boolean NOT NULL DEFAULT false, -- is in the job queue, or at work
  worker        text NOT NULL DEFAULT '',    -- who holds it, until lease_until
  lease_until   timestamptz,
  attempts      bigint NOT NULL DEFAULT 0,
  stage         text NOT NULL DEFAULT '',
  done          bigint NOT NULL DEFAULT 0,
  total         bigint NOT NULL DEFAULT 0,
  events        bigint NOT NULL DEFAULT 0,   -- the number of the last one
  calls         bigint NOT NULL DEFAULT 0,   -- what was really spent
  input_tokens  bigint NOT NULL DEFAULT 0,
  output_tokens bigint NOT NULL DEFAULT 0,
  cost_micros   bigint NOT NULL DEFAULT 0,
  estimated     boolean NOT NULL DEFAULT false,
  sandbox       boolean NOT NULL DEFAULT false,
  partial       boolean NOT NULL DEFAULT false,
  meter         text NOT NULL,
  units         bigint NOT NULL,             -- counted when it was asked for
  units_used    bigint NOT NULL DEFAULT 0,
  counted_at    timestamptz NOT NULL,
  result        text NOT NULL DEFAULT '',    -- JSON
  error_code    text NOT NULL DEFAULT '',
  error_message text NOT NULL DEFAULT '',
  created_by    text NOT NULL,
  created_at    timestamptz NOT NULL,
  started_at    timestamptz,
  ended_at      timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX research_runs_waiting ON research_runs (tenant_id, status, dispatched, priority, id);
CREATE INDEX research_runs_leases ON research_runs (status, lease_until);
-- +isolate research_runs

-- One row for each call that may cost: written before it is made, with the
-- most it may cost, and filled in before the next step begins.
CREATE TABLE research_steps (
  tenant_id     text NOT NULL,
  run_id        text NOT NULL,
  key           text NOT NULL,               -- the same in every attempt
  kind          text NOT NULL,
  status        text NOT NULL CHECK (status IN ('started', 'done', 'failed')),
  sent          text NOT NULL,               -- what went out, in a line
  output        text NOT NULL DEFAULT '',    -- JSON
  error_code    text NOT NULL DEFAULT '',
  error_message text NOT NULL DEFAULT '',
  provider      text NOT NULL DEFAULT '',
  model         text NOT NULL DEFAULT '',
  calls         bigint NOT NULL,             -- while started: the most
  input_tokens  bigint NOT NULL,
  output_tokens bigint NOT NULL,
  cost_micros   bigint NOT NULL,
  sandbox       boolean NOT NULL DEFAULT false,
  started_at    timestamptz NOT NULL,
  ended_at      timestamptz,
  PRIMARY KEY (tenant_id, run_id, key),
  FOREIGN KEY (tenant_id, run_id) REFERENCES research_runs (tenant_id, id)
);
-- +isolate research_steps

CREATE TABLE research_events (
  tenant_id  text NOT NULL,
  run_id     text NOT NULL,
  seq        bigint NOT NULL,
  key        text NOT NULL,                  -- an event is told once, whoever repeats the step
  name       text NOT NULL,
  data       text NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, run_id, seq),
  UNIQUE (tenant_id, run_id, key),
  FOREIGN KEY (tenant_id, run_id) REFERENCES research_runs (tenant_id, id)
);
-- +isolate research_events

-- The organisations of a dataset search, as they were when it began, and what
-- was found of each.
CREATE TABLE research_findings (
  tenant_id  text NOT NULL,
  run_id     text NOT NULL,
  seq        bigint NOT NULL,
  entry_id   text NOT NULL,
  entry      text NOT NULL,                  -- JSON: name, aliases, countries
  verdict    text NOT NULL DEFAULT '',       -- empty is not yet
  finding    text NOT NULL DEFAULT '',       -- JSON
  ended_at   timestamptz,
  PRIMARY KEY (tenant_id, run_id, seq),
  FOREIGN KEY (tenant_id, run_id) REFERENCES research_runs (tenant_id, id)
);
CREATE INDEX research_findings_open ON research_findings (tenant_id, run_id, verdict, seq);
-- +isolate research_findings

-- One row a tenant, taken by whoever decides which of its runs is next.
CREATE TABLE research_turns (
  tenant_id text PRIMARY KEY REFERENCES tenants (id),
  turn      bigint NOT NULL
);
-- +isolate research_turns
