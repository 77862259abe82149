-- What a mail server has been sent in a minute or a day, where it has a limit.

CREATE TABLE mail_windows (
  name    text PRIMARY KEY,  -- "minute 2026-11-25T18:30", "day 2026-11-25"
  sent    bigint NOT NULL,
  ends_at timestamptz NOT NULL
);
-- +global mail_windows
