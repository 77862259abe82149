-- What people are told of what happens in their tenant, and how they want to be told.

CREATE TABLE notifications (
  tenant_id  text NOT NULL REFERENCES tenants (id),
  id         text NOT NULL,
  user_id    text NOT NULL,               -- who is told
  type       text NOT NULL,
  target     text NOT NULL,               -- the object of the event
  params     text NOT NULL,               -- JSON: what the text is made of when it is read; ids, counts and words of ours
  in_app     boolean NOT NULL,            -- is it shown in the portal?
  mail       text NOT NULL CHECK (mail IN ('off', 'once', 'daily')),
  mailed_at  timestamptz,
  created_at timestamptz NOT NULL,
  read_at    timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX notifications_person ON notifications (tenant_id, user_id, id);
CREATE INDEX notifications_unread ON notifications (tenant_id, user_id) WHERE read_at IS NULL;
CREATE INDEX notifications_digest ON notifications (tenant_id, user_id, id) WHERE mail = 'daily' AND mailed_at IS NULL;
CREATE INDEX notifications_age ON notifications (created_at);
-- +isolate notifications

CREATE TABLE notification_preferences (
  tenant_id  text NOT NULL REFERENCES tenants (id),
  user_id    text NOT NULL,
  type       text NOT NULL,
  in_app     boolean NOT NULL,
  mail       text NOT NULL CHECK (mail IN ('off', 'once', 'daily')),
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, user_id, type)
);
-- +isolate notification_preferences
