-- Names that lead to a tenant: domains of its own, and slugs that it had.

CREATE TABLE tenant_slugs (
  tenant_id  text NOT NULL REFERENCES tenants (id),
  slug       text NOT NULL UNIQUE,
  kept_until timestamptz NOT NULL,       -- leads to the tenant, and is nobody else's, until then
  PRIMARY KEY (tenant_id, slug)
);
-- +isolate tenant_slugs

CREATE TABLE tenant_domains (
  tenant_id   text NOT NULL REFERENCES tenants (id),
  id          text NOT NULL,
  name        text NOT NULL,             -- as DNS writes it: lower case, punycode
  token       text NOT NULL,             -- what the TXT record must say; public by nature
  status      text NOT NULL CHECK (status IN ('pending', 'verified', 'lost', 'released')),
  failures    bigint NOT NULL DEFAULT 0, -- checks in a row that did not find the record
  created_at  timestamptz NOT NULL,
  verified_at timestamptz,
  checked_at  timestamptz,
  released_at timestamptz,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX tenant_domains_verified ON tenant_domains (name) WHERE status = 'verified';
CREATE UNIQUE INDEX tenant_domains_claimed ON tenant_domains (tenant_id, name) WHERE status <> 'released';
-- +isolate tenant_domains
