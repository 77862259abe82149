-- What people were told by mail, each thing once, however often Stripe tells us.
CREATE TABLE billing_notices (
  tenant_id text NOT NULL REFERENCES tenants (id),
  key       text NOT NULL,               -- payment_failed:in_…:2
  sent_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key)
);
-- +isolate billing_notices
