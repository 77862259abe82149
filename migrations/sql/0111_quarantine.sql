-- A system that was restored from a backup speaks to nobody until an operator
-- says that it may.
CREATE TABLE quarantines (
  id          text PRIMARY KEY,
  reason      text NOT NULL,
  began_at    timestamptz NOT NULL,
  released_by text NOT NULL DEFAULT '',
  released_at timestamptz
);
CREATE UNIQUE INDEX quarantines_open ON quarantines ((1)) WHERE released_at IS NULL;
-- +global quarantines
