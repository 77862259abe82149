-- The plan catalogue as versioned data. A published version never changes: a
-- tenant stays on the version it has until it is put on another.

CREATE TABLE plans (
  name       text PRIMARY KEY,
  position   bigint NOT NULL,            -- in the public list
  current    bigint NOT NULL,            -- the version that new customers get
  status     text NOT NULL CHECK (status IN ('published', 'archived')),
  updated_at timestamptz NOT NULL
);
-- +global plans

CREATE TABLE plan_versions (
  plan         text NOT NULL REFERENCES plans (name),
  version      bigint NOT NULL,
  body         text NOT NULL,            -- JSON: titles, quotas, rates, levels, features
  author       text NOT NULL,
  published_at timestamptz NOT NULL,
  PRIMARY KEY (plan, version)
);
-- +global plan_versions
-- +postgres
GRANT SELECT ON plans, plan_versions TO chainreactions_app; -- the catalogue is public
-- +end

-- What one tenant has beside its plan, by author and reason.
CREATE TABLE plan_overrides (
  tenant_id  text NOT NULL REFERENCES tenants (id),
  kind       text NOT NULL CHECK (kind IN ('quota', 'rate', 'level', 'feature')),
  name       text NOT NULL,              -- of the meter, class, level or feature
  value      bigint NOT NULL,            -- of a feature: 1 has it, 0 has it not
  author     text NOT NULL,
  reason     text NOT NULL,
  expires_at timestamptz,
  since      timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, kind, name)
);
-- +isolate plan_overrides

-- Tenants of before: pinned to the version that they were held to, and their
-- seats counted.
-- +postgres
SET LOCAL ROLE chainreactions_system;
-- +end
INSERT INTO tenant_plans (tenant_id, plan, version, author, reason, since)
  SELECT id, 'free', 1, 'migration', 'the plan in force without a row', created_at FROM tenants
  WHERE id NOT IN (SELECT tenant_id FROM tenant_plans);
INSERT INTO tenant_levels (tenant_id, level, used)
  SELECT tenant_id, 'seats', count(*) FROM memberships GROUP BY tenant_id;
-- +postgres
RESET ROLE;
-- +end
