-- Requests to vendors that cost money, and what of each budget is spent.

-- One row a request, retries included, written before it is sent. A row that
-- stays 'sent' belongs to a process that died: the vendor may have billed it,
-- so its reserved cost stands.
CREATE TABLE provider_calls (
  tenant_id       text NOT NULL REFERENCES tenants (id),
  id              text NOT NULL,
  run_id          text NOT NULL,              -- '' outside a run
  step            text NOT NULL,              -- the same in every attempt at the run
  attempt         bigint NOT NULL,
  provider        text NOT NULL,
  operation       text NOT NULL,
  model           text NOT NULL,              -- that really answered
  key_label       text NOT NULL,              -- which key of the list, never the key
  state           text NOT NULL CHECK (state IN ('sent', 'succeeded', 'failed')),
  reason          text NOT NULL DEFAULT '',   -- of a failure
  http_status     bigint NOT NULL DEFAULT 0,
  input_tokens    bigint NOT NULL DEFAULT 0,
  output_tokens   bigint NOT NULL DEFAULT 0,
  reserved_micros bigint NOT NULL,
  cost_micros     bigint NOT NULL,            -- millionths of a US dollar
  estimated       boolean NOT NULL,           -- the vendor did not say what it cost
  sandbox         boolean NOT NULL,
  sent_at         timestamptz NOT NULL,
  ended_at        timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX provider_calls_run ON provider_calls (tenant_id, run_id);
CREATE INDEX provider_calls_time ON provider_calls (provider, sent_at);
-- +isolate provider_calls

-- What is spent of the installation's budgets, by hour and by day (UTC).
CREATE TABLE provider_spend (
  provider    text NOT NULL,
  period      text NOT NULL CHECK (period IN ('hour', 'day')),
  starts      bigint NOT NULL,  -- Unix seconds
  calls       bigint NOT NULL,
  cost_micros bigint NOT NULL,
  PRIMARY KEY (provider, period, starts)
);
-- +global provider_spend

-- The same for each tenant.
CREATE TABLE provider_tenant_spend (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  provider    text NOT NULL,
  period      text NOT NULL CHECK (period IN ('hour', 'day')),
  starts      bigint NOT NULL,
  calls       bigint NOT NULL,
  cost_micros bigint NOT NULL,
  PRIMARY KEY (tenant_id, provider, period, starts)
);
-- +isolate provider_tenant_spend
