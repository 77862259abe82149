-- People, their sessions, the keys that sign tokens, and programs' keys.

CREATE TABLE users (
  id            text PRIMARY KEY,
  email         text NOT NULL UNIQUE,      -- folded to lower case
  password_hash text NOT NULL,
  full_name     text NOT NULL,
  locale        text NOT NULL DEFAULT 'en',
  accepted_at   timestamptz NOT NULL,      -- of the terms
  created_at    timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL
);
-- +global users

CREATE TABLE memberships (
  tenant_id  text NOT NULL REFERENCES tenants (id),
  id         text NOT NULL,
  user_id    text NOT NULL REFERENCES users (id),
  role       text NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);
-- +isolate memberships

CREATE TABLE sessions (
  id          text PRIMARY KEY,
  user_id     text NOT NULL REFERENCES users (id),
  tenant_id   text NOT NULL REFERENCES tenants (id), -- the active one
  ip          text NOT NULL,
  user_agent  text NOT NULL,
  created_at  timestamptz NOT NULL,
  seen_at     timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL,
  revoked_at  timestamptz
);
CREATE INDEX sessions_user ON sessions (user_id);
-- +isolate sessions

-- One row for each refresh token ever given in a session: a used one that
-- comes back late is a theft.
CREATE TABLE refresh_tokens (
  hash       text PRIMARY KEY,
  session_id text NOT NULL REFERENCES sessions (id),
  used_at    timestamptz,
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
-- +global refresh_tokens

CREATE TABLE signing_keys (
  kid        text PRIMARY KEY,
  public     text NOT NULL,
  sealed     text NOT NULL,  -- the private key under SECRET_KEY
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL
);
-- +global signing_keys

CREATE TABLE api_keys (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  id           text NOT NULL,
  lookup       text NOT NULL UNIQUE,  -- the public part of the key
  name         text NOT NULL,
  hash         text NOT NULL,         -- SHA-256 of the whole key
  hint         text NOT NULL,
  scopes       text NOT NULL,
  allowed_ips  text NOT NULL,
  created_by   text NOT NULL,
  created_at   timestamptz NOT NULL,
  expires_at   timestamptz,
  last_used_at timestamptz,
  revoked_at   timestamptz,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate api_keys
