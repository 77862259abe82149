-- Who works on the first request of an Idempotency-Key, and whether anything of it
-- is committed: what is done is not done again, whatever became of its answer.

ALTER TABLE idempotency_keys ADD COLUMN claim text NOT NULL DEFAULT '';
ALTER TABLE idempotency_keys ADD COLUMN committed boolean NOT NULL DEFAULT false;
ALTER TABLE public_idempotency_keys ADD COLUMN claim text NOT NULL DEFAULT '';
ALTER TABLE public_idempotency_keys ADD COLUMN committed boolean NOT NULL DEFAULT false;
