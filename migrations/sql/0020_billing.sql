-- What a tenant may use, and what it has used.

CREATE TABLE tenant_plans (
  tenant_id  text PRIMARY KEY REFERENCES tenants (id),
  plan       text NOT NULL,
  version    bigint NOT NULL,
  author     text NOT NULL,
  reason     text NOT NULL,
  since      timestamptz NOT NULL
);
-- +isolate tenant_plans

-- The usage ledger: the truth. An event is counted once, by its id.
CREATE TABLE usage_events (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  id          text NOT NULL,           -- request id and meter
  meter       text NOT NULL,
  units       bigint NOT NULL,
  period      text NOT NULL,           -- 2026-11
  hour        text NOT NULL,           -- 2026-11-23T02
  actor       text NOT NULL,
  occurred_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX usage_events_period ON usage_events (tenant_id, period, meter, hour);
-- +isolate usage_events

-- Levels go up and down: seats, datasets, dataset_rows.
CREATE TABLE tenant_levels (
  tenant_id text NOT NULL REFERENCES tenants (id),
  level     text NOT NULL,
  used      bigint NOT NULL,
  PRIMARY KEY (tenant_id, level)
);
-- +isolate tenant_levels
