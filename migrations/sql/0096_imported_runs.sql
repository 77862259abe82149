-- Runs that came with another tenant's archive: they are history here. They were
-- paid for there, so they cannot go on, or give units back, here.

ALTER TABLE research_runs ADD COLUMN imported_at timestamptz;
