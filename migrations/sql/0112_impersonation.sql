-- Platform administrators who act as a person of a tenant, to help: for a
-- reason, for minutes, and on the tenant's record.

ALTER TABLE sessions ADD COLUMN impersonator text NOT NULL DEFAULT ''; -- the administrator whose session it is

CREATE TABLE impersonations (
  tenant_id     text NOT NULL REFERENCES tenants (id),
  id            text NOT NULL,
  user_id       text NOT NULL,        -- who is impersonated
  admin_id      text NOT NULL,
  admin_session text NOT NULL,        -- with it, this ends too
  session_id    text NOT NULL UNIQUE,
  reason        text NOT NULL,
  started_at    timestamptz NOT NULL,
  expires_at    timestamptz NOT NULL,
  ended_at      timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX impersonations_admin ON impersonations (admin_id, id);
-- +isolate impersonations
