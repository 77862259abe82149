-- What each subscription was worth, from when on: the history that business
-- figures are computed from. A row is added where a sync finds a change; none
-- is ever changed.
CREATE TABLE subscription_history (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  subscription text NOT NULL,
  generation   bigint NOT NULL,       -- of the sync that found it
  at           timestamptz NOT NULL,
  status       text NOT NULL,
  plan         text NOT NULL,
  currency     text NOT NULL,
  mrr          bigint NOT NULL,       -- minor units a month; 0 where nothing is paid
  PRIMARY KEY (tenant_id, subscription, generation)
);
CREATE INDEX subscription_history_at ON subscription_history (at);
INSERT INTO subscription_history (tenant_id, subscription, generation, at, status, plan, currency, mrr)
  SELECT tenant_id, id, 0, created, status, plan, currency, CASE WHEN status NOT IN ('active', 'past_due') THEN 0
    WHEN cadence = 'year' THEN (unit_amount * quantity + 6) / 12 ELSE unit_amount * quantity END FROM subscriptions;
-- +isolate subscription_history
