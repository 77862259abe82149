-- +postgres
-- Checked row by row this key costs a third of an import. A batch proves it
-- once: its first statement moves the checkpoint of the import that all its
-- rows name, and so holds that row until the batch is committed.
ALTER TABLE dataset_entries DROP CONSTRAINT dataset_entries_tenant_id_import_id_fkey;
-- +end
