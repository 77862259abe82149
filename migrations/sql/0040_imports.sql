-- What a workbook adds to an import, and why an import ended, kept so that it
-- can be worded in the language of whoever asks.
ALTER TABLE dataset_imports ADD COLUMN sheet text NOT NULL DEFAULT '';
ALTER TABLE dataset_imports ADD COLUMN sheets text NOT NULL DEFAULT '[]';
ALTER TABLE dataset_imports ADD COLUMN error_detail text NOT NULL DEFAULT '';
ALTER TABLE dataset_issues DROP COLUMN message; -- worded by the code when it is read
