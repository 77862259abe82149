package domain

import (
	"context"
	"time"
)

// Job is the argument of one piece of background work: a small struct that is
// stored as JSON. Kind names the worker; ids go in, never rows, since the
// worker reads the present state.
type Job interface{ Kind() string }

// Outward is a job that speaks to somebody outside, which cannot be taken back:
// a mail, a webhook, a report of usage. It waits while the system is in
// quarantine (domain/quarantine).
type Outward interface {
	Job
	Outward()
}

// JobOptions are optional; the zero value is an ordinary job, now.
type JobOptions struct {
	Priority int       // 1 (first) to 4; 0 is 2
	At       time.Time // not before
	Unique   string    // a second job of the kind with the same word while the first has not ended is dropped
}

// Queue keeps work. Enqueue joins the store transaction of ctx and fails
// without one: the row and the job live or die together.
type Queue interface {
	Enqueue(ctx context.Context, job Job, o JobOptions) error
}

// Bounded is a Queue that refuses callers' work rather than keep it too long.
type Bounded interface {
	Queue
	// Admit says whether a caller may ask for more work of the job's kind now:
	// queue_full where as much waits as may. aside is what the tenant has
	// waiting outside of the queue. It is part of the transaction that enqueues:
	// what it counts stays so until that ends.
	Admit(ctx context.Context, job Job, aside int64) error
}

// Bell wakes those who wait for a topic, on every process. It is a hint and
// may be lost: who is woken reads the table, and reads it now and then anyway.
type Bell interface {
	Ring(ctx context.Context, topic string)
	// Wait gives a channel that is closed at the next ring of the topic after
	// this call, and a stop function that must be called.
	Wait(topic string) (rung <-chan struct{}, stop func())
}
