-- A customer is no longer read whole each time: an event names its invoice, and
-- reconciliation reads a customer whole when that is due.
ALTER TABLE stripe_events ADD COLUMN invoice text NOT NULL DEFAULT ''; -- that the event is about; '' where it does not say
ALTER TABLE billing_customers ADD COLUMN whole_due timestamptz;        -- when it is next read whole; null: at the next reading
