-- Who belongs to a tenant, by invitation, and what its own roles allow.

CREATE TABLE roles (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  id          text NOT NULL,          -- rol_…: what memberships.role names
  name        text NOT NULL,
  description text NOT NULL,
  permissions text NOT NULL,          -- JSON list
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, name)
);
-- +isolate roles

-- Counts the changes of a tenant's own roles: whoever holds a decision made
-- under another version asks again.
CREATE TABLE tenant_policies (
  tenant_id text PRIMARY KEY REFERENCES tenants (id),
  version   bigint NOT NULL
);
-- +isolate tenant_policies

CREATE TABLE invitations (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  id          text NOT NULL,
  email       text NOT NULL,          -- folded to lower case; emptied when it is over
  role        text NOT NULL,
  token_hash  text NOT NULL UNIQUE,   -- SHA-256; a resend replaces it
  invited_by  text NOT NULL,
  created_at  timestamptz NOT NULL,
  sent_at     timestamptz NOT NULL,
  sent_count  bigint NOT NULL DEFAULT 1,
  expires_at  timestamptz NOT NULL,
  accepted_at timestamptz,
  revoked_at  timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX invitations_pending ON invitations (tenant_id, email) WHERE accepted_at IS NULL AND revoked_at IS NULL;
-- +isolate invitations
