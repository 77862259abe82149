-- What people decided about a name and a listed entity. The entity stands here as
-- it was then: a list that is replaced gives its entries new ids, and a list that
-- is deleted takes no decision with it.
CREATE TABLE match_decisions (
  tenant_id     text NOT NULL REFERENCES tenants (id),
  id            text NOT NULL,
  query_key     text NOT NULL,              -- digest of the name and country asked for
  entry_key     text NOT NULL,              -- digest of the list and its external id, or name
  query_name    text NOT NULL,
  query_country text NOT NULL,
  dataset_id    text NOT NULL,
  entry_id      text NOT NULL,
  external_id   text NOT NULL,
  entry_name    text NOT NULL,
  verdict       text NOT NULL CHECK (verdict IN ('same', 'different', 'unsure')),
  note          text NOT NULL,
  score         double precision NOT NULL,
  decided_by    text NOT NULL,
  decided_at    timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX match_decisions_pair ON match_decisions (tenant_id, query_key, entry_key);
-- +isolate match_decisions
