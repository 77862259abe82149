-- Accounts: addresses that are proved, second factors, and what bounds guessing.

ALTER TABLE users ADD COLUMN email_verified_at timestamptz;
ALTER TABLE users ADD COLUMN new_email text NOT NULL DEFAULT '';       -- asked for, until both addresses confirm
ALTER TABLE users ADD COLUMN totp_secret text NOT NULL DEFAULT '';     -- sealed
ALTER TABLE users ADD COLUMN totp_confirmed_at timestamptz;
ALTER TABLE users ADD COLUMN totp_last_step bigint NOT NULL DEFAULT 0; -- a step counts once

-- Who had an account before there was verification keeps it.
UPDATE users SET email_verified_at = created_at;

ALTER TABLE sessions ADD COLUMN device text NOT NULL DEFAULT '';       -- keyed hash of what the client looks like
ALTER TABLE sessions ADD COLUMN factors text NOT NULL DEFAULT 'pwd';   -- what was shown: pwd, otp, recovery, passkey, oidc
ALTER TABLE sessions ADD COLUMN proved_at timestamptz;                 -- when a factor was shown last (step-up)

-- Links that came by mail: each works once.
CREATE TABLE email_links (
  hash       text PRIMARY KEY,
  user_id    text NOT NULL REFERENCES users (id),
  purpose    text NOT NULL CHECK (purpose IN ('verify', 'reset', 'change_old', 'change_new')),
  expires_at timestamptz NOT NULL,
  used_at    timestamptz,
  created_at timestamptz NOT NULL
);
CREATE INDEX email_links_user ON email_links (user_id, purpose);
-- +global email_links

CREATE TABLE recovery_codes (
  hash    text PRIMARY KEY,
  user_id text NOT NULL REFERENCES users (id),
  used_at timestamptz
);
CREATE INDEX recovery_codes_user ON recovery_codes (user_id);
-- +global recovery_codes

-- Failed guesses, by what was guessed at and from where, as keyed hashes.
CREATE TABLE failed_guesses (
  subject  text PRIMARY KEY,
  failures bigint NOT NULL,
  since    timestamptz NOT NULL,
  last_at  timestamptz NOT NULL
);
CREATE INDEX failed_guesses_last ON failed_guesses (last_at);
-- +global failed_guesses

CREATE TABLE platform_admins (
  user_id    text PRIMARY KEY REFERENCES users (id),
  created_by text NOT NULL,
  created_at timestamptz NOT NULL
);
-- +global platform_admins
