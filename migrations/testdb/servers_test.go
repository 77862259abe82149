package testdb

import (
	"os"
	"testing"
)

// A test's own Redis can be killed and started again, and leaves no folder.
func TestRedisServerComesAndGoes(t *testing.T) {
	s := StartRedis(t)
	if err := pingRedis(s.port); err != nil {
		t.Fatal(err)
	}
	dir := s.run.dir
	s.Kill()
	if err := pingRedis(s.port); err == nil {
		t.Fatal("a killed server answers")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("folder %s is left over: %v", dir, err)
	}
	s.Start(t)
	if err := pingRedis(s.port); err != nil {
		t.Fatal(err)
	}
}

// Both shared servers answer, and a second call gives the same server.
func TestSharedServersStartOnce(t *testing.T) {
	if a, b := Redis(t), Redis(t); a != b {
		t.Fatalf("two Redis servers: %s and %s", a, b)
	}
	if a, b := Postgres(t), Postgres(t); a != b {
		t.Fatalf("two PostgreSQL servers: %s and %s", a, b)
	}
}

// A server that cannot start is reported with its own words, at once.
func TestServerThatEndsAtStartIsReported(t *testing.T) {
	run, err := supervise("broken", "TERM", func(string) []string {
		return []string{"/bin/sh", "-c", "echo no such setting >&2; exit 3"}
	})
	if err != nil {
		t.Fatal(err)
	}
	err = run.until(func() error { return os.ErrNotExist })
	if err == nil || err.Error() != "test server ended at start: no such setting" {
		t.Fatalf("got %v", err)
	}
}
