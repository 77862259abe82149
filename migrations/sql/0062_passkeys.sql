-- Passkeys, and the ceremonies that are under way.

CREATE TABLE passkeys (
  id            text PRIMARY KEY,
  user_id       text NOT NULL REFERENCES users (id),
  credential_id text NOT NULL UNIQUE,
  name          text NOT NULL,
  data          text NOT NULL,   -- the public key and its flags, as JSON
  created_at    timestamptz NOT NULL,
  last_used_at  timestamptz
);
CREATE INDEX passkeys_user ON passkeys (user_id);
-- +global passkeys

CREATE TABLE passkey_ceremonies (
  hash       text PRIMARY KEY,
  user_id    text NOT NULL,      -- of a registration; empty for a sign-in
  data       text NOT NULL,      -- the challenge and what was asked for, as JSON
  expires_at timestamptz NOT NULL
);
-- +global passkey_ceremonies
