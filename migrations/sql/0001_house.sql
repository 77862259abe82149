-- The house: the runtime roles, tenants, the audit trail and idempotency keys.

-- +postgres
-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chainreactions_app') THEN
    BEGIN
      CREATE ROLE chainreactions_app NOLOGIN NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- another database of this server was first
    END;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chainreactions_system') THEN
    BEGIN
      CREATE ROLE chainreactions_system NOLOGIN NOBYPASSRLS;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END IF;
  IF NOT pg_has_role(current_user, 'chainreactions_app', 'MEMBER') THEN
    GRANT chainreactions_app TO CURRENT_USER;
  END IF;
  IF NOT pg_has_role(current_user, 'chainreactions_system', 'MEMBER') THEN
    GRANT chainreactions_system TO CURRENT_USER;
  END IF;
END $$;
-- +goose StatementEnd
GRANT USAGE ON SCHEMA public TO chainreactions_app, chainreactions_system;
-- +end

CREATE TABLE tenants (
  id          text PRIMARY KEY,
  slug        text NOT NULL UNIQUE,
  name        text NOT NULL,
  locale      text NOT NULL DEFAULT 'en',
  status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
  settings    text NOT NULL DEFAULT '{}',
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL
);
-- +global tenants

-- One chain of hashes a tenant; audit_heads holds the end of each.
CREATE TABLE audit_events (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  seq         bigint NOT NULL,
  id          text NOT NULL,
  occurred_at timestamptz NOT NULL,
  actor_kind  text NOT NULL,
  actor_id    text NOT NULL,
  action      text NOT NULL,
  target      text NOT NULL,
  outcome     text NOT NULL,
  request_id  text NOT NULL,
  ip          text NOT NULL,
  detail      text NOT NULL,
  prev_hash   text NOT NULL,
  hash        text NOT NULL,
  PRIMARY KEY (tenant_id, seq),
  UNIQUE (tenant_id, id)
);
CREATE INDEX audit_events_time ON audit_events (tenant_id, occurred_at);
-- +isolate audit_events

CREATE TABLE audit_heads (
  tenant_id   text PRIMARY KEY REFERENCES tenants (id),
  seq         bigint NOT NULL,
  hash        text NOT NULL
);
-- +isolate audit_heads

-- The first answer of a POST that carried an Idempotency-Key, for 24 hours.
CREATE TABLE idempotency_keys (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  key_hash     text NOT NULL,          -- of principal, method, route and key
  body_hash    text NOT NULL,
  status       bigint NOT NULL DEFAULT 0, -- 0 while the first is running
  headers      text NOT NULL DEFAULT '{}',
  body         text NOT NULL DEFAULT '',
  locked_until timestamptz NOT NULL,   -- a first that died lets go then
  expires_at   timestamptz NOT NULL,
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key_hash)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);
-- +isolate idempotency_keys
