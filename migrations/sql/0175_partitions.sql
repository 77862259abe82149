-- Tables that only grow, by month, on PostgreSQL: what is written and read daily
-- stays small whatever a table has grown to, and what is old goes, or is moved
-- away, as one table. docs/capacity.md says which and why no others.
--
-- A key must hold what its table is divided by. Of research_events and
-- provider_calls it does: ids begin with the time they were made at. Of the
-- ledger it cannot, for a unit that is booked again is told by its id alone,
-- whenever that is. So what is booked stays undivided, under a key of its own;
-- and what comes from a process's log is divided by its time: that is written in
-- the log's line, and how far the log has come is in usage_writers.

ALTER TABLE usage_events ADD COLUMN logged boolean NOT NULL DEFAULT false; -- came by a process's log; else it was booked, once for its id

-- +postgres
-- Partitions are reached through their table alone: nobody may look into this
-- schema, and in it no policy lets anybody see a row.
CREATE SCHEMA partitions;

-- What ids of a prefix that were made from a time on are not below.
CREATE FUNCTION partitions.id_from(prefix text, at timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT prefix || '_' || string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', (((floor(extract(epoch FROM at) * 1000)::bigint * 4) >> (5 * i)) & 31)::int + 1, 1), '' ORDER BY i DESC)
  FROM generate_series(0, 9) i $$;

-- What is divided, by which column, and the prefix of its ids; '' is a time.
CREATE TABLE partitions.divided (name text PRIMARY KEY, parent regclass NOT NULL, by_column text NOT NULL, prefix text NOT NULL);

-- Turns a table of the schema partitions that has rows into the partition of all
-- months up to the present one; what lies beyond goes to the default one.
-- +goose StatementBegin
CREATE FUNCTION partitions.begin_with(old text, as_name text) RETURNS void LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
  d partitions.divided;
  cut timestamptz := date_trunc('month', now()) + interval '1 month';
  before text := as_name || '_before_' || to_char(cut, 'YYYY_MM');
  bound text;
BEGIN
  SELECT * INTO STRICT d FROM partitions.divided WHERE name = as_name;
  bound := CASE d.prefix WHEN '' THEN cut::text ELSE partitions.id_from(d.prefix, cut) END;
  EXECUTE format('CREATE TABLE partitions.%I PARTITION OF %s DEFAULT', as_name || '_rest', d.parent);
  EXECUTE format('ALTER TABLE partitions.%I ENABLE ROW LEVEL SECURITY', as_name || '_rest');
  EXECUTE format('WITH moved AS (DELETE FROM partitions.%I WHERE %I >= %L RETURNING *) INSERT INTO partitions.%I SELECT * FROM moved', old, d.by_column, bound, as_name || '_rest');
  EXECUTE format('ALTER TABLE partitions.%I RENAME TO %I', old, before);
  EXECUTE format('REVOKE ALL ON partitions.%I FROM chainreactions_app, chainreactions_system', before);
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION partitions.%I FOR VALUES FROM (MINVALUE) TO (%L)', d.parent, before, bound);
END $$;
-- +goose StatementEnd

-- The ledger: what is booked, and what comes from logs by month.
ALTER TABLE usage_events NO FORCE ROW LEVEL SECURITY;
DROP POLICY tenant ON usage_events;
DROP POLICY system ON usage_events;
ALTER TABLE usage_events SET SCHEMA partitions;
CREATE TABLE usage_events (LIKE partitions.usage_events INCLUDING DEFAULTS, FOREIGN KEY (tenant_id) REFERENCES tenants (id)) PARTITION BY LIST (logged);
CREATE INDEX usage_events_period ON usage_events (tenant_id, period, meter, hour);
CREATE TABLE partitions.usage_booked PARTITION OF usage_events (PRIMARY KEY (tenant_id, id)) FOR VALUES IN (false);
ALTER TABLE partitions.usage_booked ENABLE ROW LEVEL SECURITY;
CREATE TABLE partitions.usage_logged PARTITION OF usage_events (PRIMARY KEY (tenant_id, id, occurred_at, logged)) FOR VALUES IN (true) PARTITION BY RANGE (occurred_at);
ALTER TABLE partitions.usage_logged ENABLE ROW LEVEL SECURITY;
-- +isolate usage_events
WITH moved AS (DELETE FROM partitions.usage_events WHERE id NOT LIKE 'use\_%' RETURNING *) INSERT INTO partitions.usage_booked SELECT * FROM moved;
ALTER TABLE partitions.usage_events DROP COLUMN logged;
ALTER TABLE partitions.usage_events ADD COLUMN logged boolean NOT NULL DEFAULT true;
ALTER TABLE partitions.usage_events DROP CONSTRAINT usage_events_pkey;
INSERT INTO partitions.divided VALUES ('usage_logged', 'partitions.usage_logged', 'occurred_at', '');
SELECT partitions.begin_with('usage_events', 'usage_logged');

ALTER TABLE research_events NO FORCE ROW LEVEL SECURITY;
DROP POLICY tenant ON research_events;
DROP POLICY system ON research_events;
ALTER TABLE research_events SET SCHEMA partitions;
CREATE TABLE research_events (LIKE partitions.research_events INCLUDING ALL, FOREIGN KEY (tenant_id, run_id) REFERENCES research_runs (tenant_id, id)) PARTITION BY RANGE (run_id);
-- +isolate research_events
INSERT INTO partitions.divided VALUES ('research_events', 'research_events', 'run_id', 'run');
SELECT partitions.begin_with('research_events', 'research_events');

ALTER TABLE provider_calls NO FORCE ROW LEVEL SECURITY;
DROP POLICY tenant ON provider_calls;
DROP POLICY system ON provider_calls;
ALTER TABLE provider_calls SET SCHEMA partitions;
CREATE TABLE provider_calls (LIKE partitions.provider_calls INCLUDING ALL, FOREIGN KEY (tenant_id) REFERENCES tenants (id)) PARTITION BY RANGE (id);
-- +isolate provider_calls
INSERT INTO partitions.divided VALUES ('provider_calls', 'provider_calls', 'id', 'prc');
SELECT partitions.begin_with('provider_calls', 'provider_calls');

-- Makes the partitions of the months to come, and gives how many. It is asked
-- daily and long before they are needed: where a long transaction is in the way,
-- it gives up rather than let everybody wait behind it. What came into the
-- default partition meanwhile is moved.
-- +goose StatementBegin
CREATE FUNCTION partitions_ahead(at timestamptz, months int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
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
    EXECUTE format('ANALYZE %s', d.parent); -- which nobody else does for the whole of it
  END LOOP;
  RETURN made;
END $$;
-- +goose StatementEnd

-- Drops what lies wholly before a time from the ledger's logs and the vendors'
-- calls, and gives how many. The events of a run are its own, and go with it.
-- +goose StatementBegin
CREATE FUNCTION partitions_drop(before timestamptz) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '1s' AS $$
DECLARE
  part record;
  dropped int := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(0, 175);
  FOR part IN SELECT c.relname FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid JOIN partitions.divided d ON d.parent = i.inhparent
    WHERE c.relnamespace = 'partitions'::regnamespace AND d.name IN ('usage_logged', 'provider_calls') AND c.relname ~ '_\d{4}_\d\d$'
    AND to_timestamp(right(c.relname, 7), 'YYYY_MM') + CASE WHEN c.relname ~ '_before_' THEN interval '0' ELSE interval '1 month' END <= before
  LOOP
    EXECUTE format('DROP TABLE partitions.%I', part.relname);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION partitions_ahead(timestamptz, int), partitions_drop(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partitions_ahead(timestamptz, int), partitions_drop(timestamptz) TO chainreactions_system;
SELECT partitions_ahead(now(), 3);
-- +end
