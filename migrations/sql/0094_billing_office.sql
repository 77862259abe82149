-- What the nightly proof found to differ: gone when it finds it no more.
CREATE TABLE billing_differences (
  tenant_id text NOT NULL REFERENCES tenants (id),
  meter     text NOT NULL,
  period    text NOT NULL,
  what      text NOT NULL,              -- ledger, counted, invoiced or amount
  ours      bigint NOT NULL,
  theirs    bigint NOT NULL,
  found_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, meter, period, what)
);
-- +isolate billing_differences

-- Money that an administrator gave a tenant towards its next invoices. The row
-- stands before Stripe is told, and names the call: told twice is given once.
CREATE TABLE billing_credits (
  tenant_id text NOT NULL REFERENCES tenants (id),
  id        text NOT NULL,
  amount    bigint NOT NULL,            -- minor units
  currency  text NOT NULL,
  author    text NOT NULL,
  reason    text NOT NULL,
  given_at  timestamptz,                -- null until Stripe has it
  created   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate billing_credits
