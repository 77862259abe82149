package store

import (
	"context"
	"time"

	"github.com/chainreactions/chainreactions/domain"
)

// MonthsJob keeps the tables that PostgreSQL divides by month divided.
type MonthsJob struct{}

// Kind is the queue's.
func (MonthsJob) Kind() string { return "store.months" }

// monthsAhead is how long the job may fail before rows of a new month share the
// partition that takes what no other does.
const monthsAhead = 3

// Months makes the partitions of the months to come, and drops those of the usage
// that lie wholly more than keep months back; 0 keeps all. SQLite has none.
func (s *Store) Months(ctx context.Context, now time.Time, keep int) error {
	if s.dialect == SQLite {
		return nil
	}
	system := domain.System(ctx, "partitions by month")
	err := s.Tx(system, func(ctx context.Context) error {
		_, err := s.Exec(ctx, "SELECT partitions_ahead(@now, @months)", map[string]any{"now": now, "months": monthsAhead})
		if err == nil && keep > 0 {
			_, err = s.Exec(ctx, "SELECT partitions_drop(@before)", map[string]any{"before": now.AddDate(0, -keep, 0)})
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.Tx(system, func(ctx context.Context) error { // its own: nobody waits for what it holds
		var tables int64
		return s.SQL(ctx, "SELECT partitions_analyze()", nil).Scan(&tables).Error
	})
}
