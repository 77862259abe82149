-- Making partitions holds, until it commits, what whoever asks without a month and
-- whoever opens a tenant waits for; to analyze a large ledger takes seconds. So that is
-- a transaction of its own, which nobody waits for.

-- +postgres
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION partitions_ahead(at timestamptz, months int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '1s' AS $$
DECLARE
  d partitions.divided;
  this timestamptz;
  part text;
  low text;
  high text;
  made int := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(0, 175);
  FOR d IN SELECT * FROM partitions.divided LOOP
    FOR month IN 0..months LOOP
      this := date_trunc('month', at) + make_interval(months => month);
      part := d.name || to_char(this, '_YYYY_MM');
      CONTINUE WHEN to_regclass(format('partitions.%I', part)) IS NOT NULL
        OR EXISTS (SELECT FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relkind = 'r' AND starts_with(relname, d.name || '_before_') AND right(part, 7) < right(relname, 7));
      low := CASE d.prefix WHEN '' THEN this::text ELSE partitions.id_from(d.prefix, this) END;
      high := CASE d.prefix WHEN '' THEN (this + interval '1 month')::text ELSE partitions.id_from(d.prefix, this + interval '1 month') END;
      EXECUTE format('CREATE TABLE partitions.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, d.parent);
      EXECUTE format('ALTER TABLE partitions.%I ENABLE ROW LEVEL SECURITY', part);
      EXECUTE format('WITH moved AS (DELETE FROM partitions.%I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO partitions.%I SELECT * FROM moved',
        d.name || '_rest', d.by_column, low, d.by_column, high, part);
      EXECUTE format('ALTER TABLE %s ATTACH PARTITION partitions.%I FOR VALUES FROM (%L) TO (%L)', d.parent, part, low, high);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END $$;
-- +goose StatementEnd


-- What is known of a divided table as a whole, which nobody else looks at.
-- +goose StatementBegin
CREATE FUNCTION partitions_analyze() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
  d partitions.divided;
  done int := 0;
BEGIN
  FOR d IN SELECT * FROM partitions.divided LOOP
    EXECUTE format('ANALYZE %s', d.parent);
    done := done + 1;
  END LOOP;
  RETURN done;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION partitions_analyze() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partitions_analyze() TO chainreactions_system;
-- +end
