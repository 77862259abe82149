-- Sign-in through others: the providers that tenants name, who a person is there, and sign-ins under way.

CREATE TABLE sso_connections (
  tenant_id     text NOT NULL REFERENCES tenants (id),
  id            text NOT NULL UNIQUE,             -- it is in addresses that the provider is told
  kind          text NOT NULL CHECK (kind IN ('oidc', 'saml')),
  name          text NOT NULL,
  issuer        text NOT NULL,                    -- of SAML, the entity id
  client_id     text NOT NULL,
  client_secret text NOT NULL,                    -- sealed
  metadata      text NOT NULL,                    -- of SAML: the provider's, as XML
  default_role  text NOT NULL,                    -- of who comes for the first time
  enabled       boolean NOT NULL,
  created_at    timestamptz NOT NULL,
  updated_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
-- +isolate sso_connections

-- Who a person is at a provider: the issuer and its own id of them, never an
-- address (ASVS V6.8.1).
CREATE TABLE identities (
  id           text PRIMARY KEY,
  user_id      text NOT NULL REFERENCES users (id),
  provider     text NOT NULL,                     -- google, github, microsoft or the id of a connection
  issuer       text NOT NULL,
  subject      text NOT NULL,
  email        text NOT NULL,                     -- as it was when it was linked
  created_at   timestamptz NOT NULL,
  last_used_at timestamptz,
  UNIQUE (provider, issuer, subject)
);
CREATE INDEX identities_user ON identities (user_id);
-- +global identities

-- A sign-in under way, in the browser that began it: sent to a provider, or
-- back with something yet to be done. Each is good once.
CREATE TABLE sso_flows (
  hash       text PRIMARY KEY,
  step       text NOT NULL CHECK (step IN ('sent', 'arrived', 'link', 'code', 'signup')),
  provider   text NOT NULL,
  browser    text NOT NULL,                       -- hash of the cookie
  user_id    text NOT NULL,                       -- where it is known
  sealed     text NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX sso_flows_expires ON sso_flows (expires_at);
-- +global sso_flows

-- The connection that opened a session. Such a session is the tenant's: it
-- opens nothing else of the person.
ALTER TABLE sessions ADD COLUMN connection_id text NOT NULL DEFAULT '';
