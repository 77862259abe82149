-- Exports, erasures, the holds that stop them, and consents.

CREATE TABLE consents (
  id         text PRIMARY KEY,
  user_id    text NOT NULL REFERENCES users (id),
  purpose    text NOT NULL,
  version    text NOT NULL,              -- of the text that was shown
  granted    boolean NOT NULL,           -- false: taken back
  created_at timestamptz NOT NULL
);
CREATE INDEX consents_user ON consents (user_id, purpose, id);
-- +global consents

CREATE TABLE privacy_exports (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  id           text NOT NULL,
  user_id      text NOT NULL,            -- who asked, and whose it is where the scope is user
  scope        text NOT NULL CHECK (scope IN ('user', 'tenant')),
  status       text NOT NULL CHECK (status IN ('queued', 'ready', 'failed', 'expired')),
  content_hash text NOT NULL DEFAULT '',
  size_bytes   bigint NOT NULL DEFAULT 0,
  error        text NOT NULL DEFAULT '',
  created_at   timestamptz NOT NULL,
  ready_at     timestamptz,
  expires_at   timestamptz,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate privacy_exports

CREATE TABLE privacy_erasures (
  tenant_id    text NOT NULL REFERENCES tenants (id), -- where it was asked for
  id           text NOT NULL,
  scope        text NOT NULL CHECK (scope IN ('user', 'tenant')),
  subject      text NOT NULL,            -- usr_… or ten_…
  requested_by text NOT NULL,
  status       text NOT NULL CHECK (status IN ('scheduled', 'held', 'cancelled', 'done')),
  due_at       timestamptz NOT NULL,
  created_at   timestamptz NOT NULL,
  ended_at     timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX privacy_erasures_open ON privacy_erasures (subject) WHERE status IN ('scheduled', 'held');
CREATE INDEX privacy_erasures_due ON privacy_erasures (status, due_at);
-- +isolate privacy_erasures

CREATE TABLE legal_holds (
  id          text PRIMARY KEY,
  subject     text NOT NULL,             -- usr_… or ten_…
  reason      text NOT NULL,
  author      text NOT NULL,
  created_at  timestamptz NOT NULL,
  released_at timestamptz
);
CREATE INDEX legal_holds_subject ON legal_holds (subject);
-- +global legal_holds
