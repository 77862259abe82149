package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// configured is what these values of the environment are as a configuration, with a
// folder of its own where none is named.
func configured(t testing.TB, values map[string]string) Config {
	t.Helper()
	if values == nil {
		values = map[string]string{}
	}
	if values["DATA_DIR"] == "" {
		values["DATA_DIR"] = t.TempDir()
	}
	c, err := loadConfig(env(values))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// launch starts the whole program in this process, once prepare has changed what it
// wants of it; stop drains it. A test holds every answer to the API document.
func launch(t testing.TB, c Config, log slog.Handler, prepare func(p *program)) (p *program, base string, stop func() error) {
	t.Helper()
	c.CodeDir = "" // to compile would take longer than all that is read here
	p, err := build(context.Background(), c, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(p)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if t, ok := t.(*testing.T); ok {
		holdToContract(t, p, l.Addr().String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx, l) }()
	return p, "http://" + l.Addr().String(), func() error {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		return <-ended
	}
}

// served launches it until the test ends, when it has to drain cleanly.
func served(t testing.TB, c Config, log slog.Handler, prepare func(p *program)) (p *program, base string) {
	t.Helper()
	p, base, stop := launch(t, c, log, prepare)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the drain was not clean: %v", err)
		}
	})
	return p, base
}

// serve is served with these values, on the embedded parts, without a log.
func serve(t testing.TB, values map[string]string) (p *program, base string) {
	t.Helper()
	return served(t, configured(t, values), slog.DiscardHandler, nil)
}
