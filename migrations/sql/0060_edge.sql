-- First answers kept for Idempotency-Key where no tenant is known yet.

CREATE TABLE public_idempotency_keys (
  key_hash     text PRIMARY KEY,       -- of address, method, route and key
  body_hash    text NOT NULL,
  status       bigint NOT NULL DEFAULT 0, -- 0 while the first is running
  headers      text NOT NULL DEFAULT '',
  body         text NOT NULL DEFAULT '',
  locked_until timestamptz NOT NULL,
  expires_at   timestamptz NOT NULL,
  created_at   timestamptz NOT NULL
);
CREATE INDEX public_idempotency_keys_expiry ON public_idempotency_keys (expires_at);
-- +global public_idempotency_keys
