-- What was changed while processes ran: one row a process and setting.
CREATE TABLE config_changes (
  id      text PRIMARY KEY,
  at      timestamptz NOT NULL,
  process text NOT NULL,                 -- host and process id
  name    text NOT NULL,
  before  text NOT NULL,
  after   text NOT NULL
);
-- +global config_changes
