-- The index for search within long lists: for each gram of the folded names, by
-- its hash, a bitmap of the blocks of entries that have it. A job builds it
-- after the import, in pages; until then, and for short lists, search scans.
CREATE TABLE search_grams (
  tenant_id text NOT NULL,
  import_id text NOT NULL,
  segment   bigint NOT NULL,
  gram      bigint NOT NULL,   -- 0 to 16383; -1 is the list of the blocks' first entries
  bits      bytea NOT NULL,
  PRIMARY KEY (tenant_id, import_id, gram, segment)
);
-- +isolate search_grams
ALTER TABLE dataset_imports ADD COLUMN searchable boolean NOT NULL DEFAULT false;
