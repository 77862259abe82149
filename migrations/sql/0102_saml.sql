-- SAML assertions that were accepted: each is good once (ASVS V6.8.3).

CREATE TABLE saml_assertions (
  hash       text PRIMARY KEY,          -- of the connection and the assertion's id
  expires_at timestamptz NOT NULL       -- after which nobody accepts it anyway
);
CREATE INDEX saml_assertions_expires ON saml_assertions (expires_at);
-- +global saml_assertions
