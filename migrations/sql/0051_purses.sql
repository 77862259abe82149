-- Quota is handed out to purses before it is spent (billing/purse.go).

-- What was handed out of a tenant's quota in a period: never more than it.
CREATE TABLE quota_grants (
  tenant_id text NOT NULL REFERENCES tenants (id),
  meter     text NOT NULL,
  period    text NOT NULL,
  granted   bigint NOT NULL,
  newest    bigint NOT NULL,          -- number of the newest purse
  PRIMARY KEY (tenant_id, meter, period)
);
-- +isolate quota_grants

CREATE TABLE quota_purses (
  tenant_id text NOT NULL REFERENCES tenants (id),
  meter     text NOT NULL,
  period    text NOT NULL,
  number    bigint NOT NULL,
  owner     text NOT NULL,            -- '' is shared by all processes; else the usage_writers.id of the one that has it
  granted   bigint NOT NULL,
  closed    boolean NOT NULL DEFAULT false,
  mark      bigint NOT NULL DEFAULT 0, -- of a closed one: writers whose floor is as high are done with it
  PRIMARY KEY (tenant_id, meter, period, number)
);
CREATE INDEX quota_purses_closed ON quota_purses (mark) WHERE closed;
CREATE INDEX quota_purses_owner ON quota_purses (owner) WHERE owner <> '';
-- +isolate quota_purses

-- One row a process that may hold usage which is not in the ledger yet.
CREATE TABLE usage_writers (
  id         text PRIMARY KEY,
  moved      bigint NOT NULL,         -- the last event of its log that is in the ledger
  floor      bigint NOT NULL,         -- it has nothing left of purses with a mark up to this
  started_at timestamptz NOT NULL
);
-- +global usage_writers

CREATE TABLE usage_marks (
  id   bigint PRIMARY KEY,
  mark bigint NOT NULL
);
-- +global usage_marks
INSERT INTO usage_marks (id, mark) VALUES (1, 0);

ALTER TABLE usage_events ADD COLUMN purse bigint NOT NULL DEFAULT 0;
