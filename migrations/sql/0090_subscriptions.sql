-- What Stripe said, as it was read last. Stripe is the truth of these tables:
-- they are written by sync alone, and can be read again at any time.

-- Prices at Stripe by their id. One that is no longer sold stays: who pays it
-- goes on paying it.
CREATE TABLE plan_prices (
  id         text PRIMARY KEY,            -- Stripe's
  plan       text NOT NULL,
  version    bigint NOT NULL,
  currency   text NOT NULL,
  cadence    text NOT NULL CHECK (cadence IN ('month', 'year')),
  amount     bigint NOT NULL,             -- minor units, for one seat
  active     boolean NOT NULL
);
CREATE INDEX plan_prices_plan ON plan_prices (plan, version, currency, cadence);
-- +global plan_prices
-- +postgres
GRANT SELECT ON plan_prices TO chainreactions_app; -- the catalogue is public
-- +end

-- A tenant's customer at Stripe. Made before the first Checkout, so that whose
-- a payment is never depends on what comes with it.
CREATE TABLE billing_customers (
  tenant_id  text PRIMARY KEY REFERENCES tenants (id),
  customer   text UNIQUE,                 -- null while it is being made
  intent     text NOT NULL,               -- of the idempotency key that makes it
  offers     bigint NOT NULL,             -- Checkouts begun
  generation bigint NOT NULL,             -- of what was read: a sync that began before another ended is done again
  deleted    boolean NOT NULL,
  currency   text NOT NULL,
  card_brand text NOT NULL,
  card_last4 text NOT NULL,
  synced_at  timestamptz
);
-- +isolate billing_customers

CREATE TABLE subscriptions (
  tenant_id            text NOT NULL REFERENCES tenants (id),
  id                   text NOT NULL UNIQUE, -- Stripe's
  status               text NOT NULL,
  plan                 text NOT NULL,        -- '' where the price is not ours
  version              bigint NOT NULL,
  price                text NOT NULL,
  item                 text NOT NULL,
  cadence              text NOT NULL,
  currency             text NOT NULL,
  unit_amount          bigint NOT NULL,
  quantity             bigint NOT NULL,      -- seats
  period_start         timestamptz NOT NULL,
  period_end           timestamptz NOT NULL,
  cancel_at            timestamptz,
  cancel_at_period_end boolean NOT NULL,
  ended_at             timestamptz,
  trial_end            timestamptz,
  past_due_since       timestamptz,
  pending_until        timestamptz,          -- an upgrade waits for its payment
  next_plan            text NOT NULL,        -- from next_at on
  next_version         bigint NOT NULL,
  next_cadence         text NOT NULL,
  next_quantity        bigint NOT NULL,
  next_at              timestamptz,
  schedule             text NOT NULL,
  latest_invoice       text NOT NULL,
  discount             text NOT NULL,
  created              timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate subscriptions

CREATE TABLE invoices (
  tenant_id        text NOT NULL REFERENCES tenants (id),
  id               text NOT NULL UNIQUE,     -- Stripe's
  number           text NOT NULL,
  status           text NOT NULL,
  reason           text NOT NULL,
  subscription     text NOT NULL,
  charge           text NOT NULL,
  currency         text NOT NULL,
  subtotal         bigint NOT NULL,          -- minor units, as are all
  tax              bigint NOT NULL,
  total            bigint NOT NULL,
  amount_due       bigint NOT NULL,
  amount_paid      bigint NOT NULL,
  amount_remaining bigint NOT NULL,
  refunded         bigint NOT NULL,
  attempts         bigint NOT NULL,
  period_start     timestamptz NOT NULL,
  period_end       timestamptz NOT NULL,
  created          timestamptz NOT NULL,
  finalized_at     timestamptz,
  paid_at          timestamptz,
  next_attempt     timestamptz,
  hosted_url       text NOT NULL,
  pdf              text NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate invoices

CREATE TABLE disputes (
  tenant_id text NOT NULL REFERENCES tenants (id),
  id        text NOT NULL UNIQUE,            -- Stripe's
  charge    text NOT NULL,
  status    text NOT NULL,
  reason    text NOT NULL,
  currency  text NOT NULL,
  amount    bigint NOT NULL,
  due_by    timestamptz,
  created   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate disputes

-- The inbox of events. A row is done in the transaction of its effect.
CREATE TABLE stripe_events (
  id          text PRIMARY KEY,              -- Stripe's
  type        text NOT NULL,
  customer    text NOT NULL,                 -- '' where it is nobody's
  object      text NOT NULL,
  created     timestamptz NOT NULL,
  status      text NOT NULL CHECK (status IN ('received', 'done', 'ignored')),
  note        text NOT NULL,                 -- why it was ignored, or what failed last
  attempts    bigint NOT NULL,
  received_at timestamptz NOT NULL,
  done_at     timestamptz
);
CREATE INDEX stripe_events_open ON stripe_events (status, customer);
-- +global stripe_events
