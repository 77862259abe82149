-- Provisioning by a tenant's directory (SCIM 2.0).

CREATE TABLE scim_tokens (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  id           text NOT NULL,
  name         text NOT NULL,
  hash         text NOT NULL UNIQUE,   -- SHA-256 of the whole token
  power        bigint NOT NULL,        -- what its maker might do, as bits of auth's list: it gives and takes no more
  created_by   text NOT NULL,
  created_at   timestamptz NOT NULL,
  last_used_at timestamptz,
  revoked_at   timestamptz,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate scim_tokens

-- Who was provisioned. The membership of one who is not active is gone; the row
-- keeps the role that they return to.
CREATE TABLE scim_users (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  id           text NOT NULL,
  user_id      text NOT NULL REFERENCES users (id),
  user_name    text NOT NULL,          -- as the directory writes it
  email        text NOT NULL,
  external_id  text NOT NULL,
  given_name   text NOT NULL,
  family_name  text NOT NULL,
  display_name text NOT NULL,
  role         text NOT NULL,
  active       boolean NOT NULL,
  created_at   timestamptz NOT NULL,
  updated_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, user_id)
);
-- +isolate scim_users
