-- Where tenants want to be told what happens, and what was told.

CREATE TABLE webhook_endpoints (
  tenant_id       text NOT NULL REFERENCES tenants (id),
  id              text NOT NULL,
  url             text NOT NULL,
  description     text NOT NULL,
  events          text NOT NULL,          -- JSON list of patterns: "*", "dataset.*", "member.join"
  sealed          text NOT NULL,          -- the signing secrets, under SECRET_KEY
  status          text NOT NULL CHECK (status IN ('active', 'disabled')),
  disabled_reason text NOT NULL DEFAULT '',
  failing_since   timestamptz,
  created_by      text NOT NULL,
  created_at      timestamptz NOT NULL,
  updated_at      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate webhook_endpoints

CREATE TABLE webhook_deliveries (
  tenant_id    text NOT NULL,
  id           text NOT NULL,
  endpoint_id  text NOT NULL,
  message_id   text NOT NULL,             -- webhook-id: the same at every attempt and replay
  type         text NOT NULL,
  body         text NOT NULL,
  status       text NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
  attempts     text NOT NULL DEFAULT '[]', -- JSON: when, status, how long, what went wrong
  created_at   timestamptz NOT NULL,
  next_at      timestamptz,
  ended_at     timestamptz,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoints (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (tenant_id, endpoint_id, id);
CREATE INDEX webhook_deliveries_age ON webhook_deliveries (created_at);
-- +isolate webhook_deliveries
