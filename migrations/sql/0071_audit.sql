-- The audit trail grows and is never changed: what it says of a person's
-- address is under the person's own key, its old events go only under a signed
-- seal, and an impersonation names both.

CREATE TABLE subject_keys (
  tenant_id  text NOT NULL REFERENCES tenants (id),
  subject    text NOT NULL,          -- usr_… or key_…
  sealed     text NOT NULL,          -- the key, under SECRET_KEY
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, subject)
);
-- +isolate subject_keys

ALTER TABLE audit_events ADD COLUMN impersonator text NOT NULL DEFAULT '';
ALTER TABLE audit_events ADD COLUMN mac text NOT NULL DEFAULT ''; -- of the hash, under SECRET_KEY
CREATE INDEX audit_events_actor ON audit_events (tenant_id, actor_id, seq);
CREATE INDEX audit_events_target ON audit_events (tenant_id, target, seq);

-- What stands in for removed events: the chain goes on from its hash.
CREATE TABLE audit_seals (
  tenant_id text NOT NULL REFERENCES tenants (id),
  seq       bigint NOT NULL,         -- of the last event removed
  hash      text NOT NULL,           -- its hash
  sealed_at timestamptz NOT NULL,
  signature text NOT NULL,
  PRIMARY KEY (tenant_id, seq)
);
-- +isolate audit_seals

-- +sqlite
-- +goose StatementBegin
CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are never changed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_go_sealed BEFORE DELETE ON audit_events
WHEN NOT EXISTS (SELECT 1 FROM audit_seals s WHERE s.tenant_id = OLD.tenant_id AND s.seq >= OLD.seq)
BEGIN SELECT RAISE(ABORT, 'audit events go only under a seal'); END;
-- +goose StatementEnd
-- +end
-- +postgres
REVOKE UPDATE, DELETE ON audit_events FROM chainreactions_app;
REVOKE UPDATE ON audit_events FROM chainreactions_system;
REVOKE UPDATE, DELETE ON audit_seals FROM chainreactions_app, chainreactions_system;
-- +goose StatementBegin
CREATE FUNCTION audit_events_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM audit_seals s WHERE s.tenant_id = OLD.tenant_id AND s.seq >= OLD.seq) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'audit events are never changed, and go only under a seal';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_stay BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_events_guard();
-- +end
