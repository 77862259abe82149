-- Requests of people who have no account and may be named in tenants' lists.
-- Each tenant that names them gets a part of its own, and never learns of others.

CREATE TABLE person_requests (
  id           text PRIMARY KEY,
  kind         text NOT NULL CHECK (kind IN ('access', 'rectification', 'erasure', 'objection')),
  name         text NOT NULL,
  aliases      text NOT NULL,          -- JSON list
  email        text NOT NULL,
  locale       text NOT NULL,
  message      text NOT NULL,
  link_hash    text NOT NULL UNIQUE,   -- SHA-256 of what was mailed
  created_at   timestamptz NOT NULL,
  confirmed_at timestamptz,
  passed_at    timestamptz
);
-- +global person_requests

CREATE TABLE person_request_parts (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  id          text NOT NULL,
  request_id  text NOT NULL,
  kind        text NOT NULL,
  name        text NOT NULL,
  email       text NOT NULL,
  locale      text NOT NULL,
  message     text NOT NULL,
  entries     text NOT NULL,           -- JSON: what of the tenant's lists bears the name
  received_at timestamptz NOT NULL,
  due_at      timestamptz NOT NULL,
  status      text NOT NULL CHECK (status IN ('open', 'fulfilled', 'refused')),
  note        text NOT NULL DEFAULT '',
  answered_by text NOT NULL DEFAULT '',
  answered_at timestamptz,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, request_id)
);
-- +isolate person_request_parts
