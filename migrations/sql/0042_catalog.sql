-- The catalogue: published reference lists that every tenant may add. A
-- subscription is a dataset that names the list it follows.
CREATE TABLE catalog_lists (
  slug        text PRIMARY KEY,
  name        text NOT NULL,
  description text NOT NULL,
  publisher   text NOT NULL,
  source_url  text NOT NULL,
  licence     text NOT NULL,
  published   boolean NOT NULL DEFAULT false, -- not shown and not subscribed to before it is
  version     bigint NOT NULL DEFAULT 0,
  digest      text NOT NULL DEFAULT '',       -- SHA-256 of the file
  filename    text NOT NULL DEFAULT '',
  size_bytes  bigint NOT NULL DEFAULT 0,
  row_count   bigint NOT NULL DEFAULT 0,
  updated_at  timestamptz NOT NULL
);
-- +global catalog_lists

CREATE TABLE catalog_parts ( -- the file of the present version, in order
  slug    text NOT NULL REFERENCES catalog_lists (slug),
  version bigint NOT NULL,
  seq     bigint NOT NULL,
  content bytea NOT NULL,
  PRIMARY KEY (slug, version, seq)
);
-- +global catalog_parts

ALTER TABLE datasets ADD COLUMN catalog_slug text NOT NULL DEFAULT '';
ALTER TABLE datasets ADD COLUMN catalog_version bigint NOT NULL DEFAULT 0; -- that its entries are of
ALTER TABLE dataset_imports ADD COLUMN catalog_version bigint NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX datasets_catalog ON datasets (tenant_id, catalog_slug) WHERE catalog_slug <> '' AND deleted_at IS NULL;
CREATE INDEX datasets_followers ON datasets (catalog_slug, tenant_id) WHERE catalog_slug <> '';
