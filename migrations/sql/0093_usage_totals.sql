-- What the ledger adds up to, for each meter and quota period: kept in the
-- transactions that write the ledger, so that a limit, an alert or a report
-- never has to add up a month.
CREATE TABLE usage_totals (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  meter        text NOT NULL,
  period       text NOT NULL,
  units        bigint NOT NULL,
  alerted      bigint NOT NULL DEFAULT 0,  -- the highest share of the quota, in percent, that was told
  quota        bigint NOT NULL DEFAULT -1, -- of the plan, as it was last in the period
  -- What is paid for beyond the quota; 'per' 0 is a hard stop.
  subscription text NOT NULL DEFAULT '',   -- Stripe's
  currency     text NOT NULL DEFAULT '',
  price        text NOT NULL DEFAULT '',   -- Stripe's, of one package
  amount       bigint NOT NULL DEFAULT 0,  -- minor units, for one package
  per          bigint NOT NULL DEFAULT 0,  -- units in a package
  bill_start   timestamptz,                -- Stripe's period that the quota period lies in
  bill_end     timestamptz,
  beyond       bigint NOT NULL DEFAULT 0,  -- units used beyond the quota in force when they were used
  packages     bigint NOT NULL DEFAULT 0,  -- that they are
  reported     bigint NOT NULL DEFAULT 0,  -- packages that Stripe has taken in
  sending      bigint NOT NULL DEFAULT 0,  -- packages that Stripe has when the report under way has arrived; 0 is none
  sequence     bigint NOT NULL DEFAULT 0,  -- of reports
  sent_at      timestamptz,                -- when the report under way was first sent
  late         bigint NOT NULL DEFAULT 0,  -- packages that went onto invoices by hand, since Stripe's period was over
  settled_at   timestamptz,                -- what was invoiced is what was used
  PRIMARY KEY (tenant_id, meter, period)
);
CREATE INDEX usage_totals_owing ON usage_totals (bill_end) WHERE packages > 0 AND settled_at IS NULL;
INSERT INTO usage_totals (tenant_id, meter, period, units) SELECT tenant_id, meter, period, sum(units) FROM usage_events GROUP BY 1, 2, 3;
-- +isolate usage_totals

-- A price of a meter's packages beside those of seats: '' is of seats.
ALTER TABLE plan_prices ADD COLUMN meter text NOT NULL DEFAULT '';
ALTER TABLE plan_prices ADD COLUMN records boolean NOT NULL DEFAULT false; -- reported by usage records, else by meter events

-- What of a subscription is metered: JSON, Stripe's item by meter.
ALTER TABLE subscriptions ADD COLUMN metered text NOT NULL DEFAULT '{}';
