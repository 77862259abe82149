-- Platform administrators: accounts that they shut, and the record read across
-- tenants.

ALTER TABLE users ADD COLUMN disabled_at timestamptz;   -- nobody signs in, and no key that they made works

CREATE INDEX audit_events_id ON audit_events (id);      -- newest first over all tenants
CREATE INDEX api_keys_creator ON api_keys (created_by);
