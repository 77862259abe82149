package testdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/chainreactions/chainreactions/domain/store"
	"github.com/chainreactions/chainreactions/migrations"
)

// Throwaway servers. A test binary starts at most one PostgreSQL and one
// shared Redis, on free ports of 127.0.0.1, with their files under /tmp (not
// in t.TempDir(): its parents are 0700 and shut the postgres user out).
//
// Each server runs below a small shell that waits for the end of its standard
// input, which is a pipe held by the test binary. However the binary ends,
// kill -9 included, the pipe closes, the shell stops the server and removes
// its folder. No server and no folder outlives a test run.

// startLimit bounds how long a server may take until it answers.
const startLimit = 60 * time.Second

type shared struct {
	once sync.Once
	url  string
	err  error
}

var (
	sharedRedis    shared
	sharedPostgres shared
)

// errNoBinary says that the machine has no such server; the test is skipped.
var errNoBinary = errors.New("server is not installed")

// Redis gives the URL of a Redis for tests: TEST_REDIS_URL when set, else one
// throwaway server for the whole test binary. Tests share it, so they use keys
// of their own and never FLUSHALL; for that, take StartRedis. Without
// redis-server the test is skipped.
func Redis(t testing.TB) string {
	t.Helper()
	return sharedRedis.get(t, "TEST_REDIS_URL", func() (string, error) {
		s, err := newRedis()
		if err != nil {
			return "", err
		}
		return s.URL, nil
	})
}

// Postgres gives the DSN of a PostgreSQL superuser for tests: TEST_DATABASE_URL
// when set, else one throwaway server for the whole test binary, with fsync
// off. Every caller makes its own database in it. Without PostgreSQL's binaries
// the test is skipped.
func Postgres(t testing.TB) string {
	t.Helper()
	return sharedPostgres.get(t, "TEST_DATABASE_URL", startPostgres)
}

func (s *shared) get(t testing.TB, env string, start func() (string, error)) string {
	t.Helper()
	if url := os.Getenv(env); url != "" {
		return url
	}
	s.once.Do(func() { s.url, s.err = start() })
	if errors.Is(s.err, errNoBinary) {
		t.Skipf("SKIPPED, NOT TESTED: %v and %s is not set", s.err, env)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.url
}

// RedisServer is a Redis that belongs to one test, which may kill it, flush it
// and start it again on the same port.
type RedisServer struct {
	URL  string
	port int
	more []string // arguments
	run  *supervised
}

// StartRedis starts a Redis for this test alone and stops it at its end.
func StartRedis(t testing.TB) *RedisServer {
	t.Helper()
	return startRedis(t)
}

func startRedis(t testing.TB, more ...string) *RedisServer {
	t.Helper()
	s, err := newRedis(more...)
	if errors.Is(err, errNoBinary) {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// RedisCluster is a Redis Cluster of three masters that belongs to one test,
// with a replica of the first, which owns the slots below RedisClusterSlots/3.
type RedisCluster struct {
	URL   string
	First *RedisServer
	nodes []*RedisServer
}

// RedisClusterSlots is how many slots keys are spread over.
const RedisClusterSlots = 16384

// StartRedisCluster starts one and waits until it is whole.
func StartRedisCluster(t testing.TB) *RedisCluster {
	t.Helper()
	const masters = 3
	c := &RedisCluster{}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var do []func(args ...any) string // on each
	for range masters + 1 {
		bus, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		s := startRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "2000", // as long does a new one wait, at the most, until it is part of the whole
			"--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no")
		rdb := redis.NewClient(&redis.Options{Addr: s.address(), DisableIdentity: true})
		defer rdb.Close()
		ask := func(args ...any) string {
			t.Helper()
			answer, err := rdb.Do(ctx, args...).Text()
			if err != nil {
				t.Fatal(args, err)
			}
			return answer
		}
		n := len(c.nodes)
		c.nodes, do = append(c.nodes, s), append(do, ask)
		ask("CLUSTER", "SET-CONFIG-EPOCH", n+1)
		if n < masters {
			ask("CLUSTER", "ADDSLOTSRANGE", RedisClusterSlots*n/masters, RedisClusterSlots*(n+1)/masters-1)
		}
		if n > 0 {
			do[0]("CLUSTER", "MEET", "127.0.0.1", s.port, bus)
		}
	}
	until := func(holds func() bool) {
		t.Helper()
		for tick := time.NewTicker(10 * time.Millisecond); !holds(); {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("the Redis Cluster is not whole after %s", startLimit)
			}
		}
	}
	whole := func() {
		t.Helper()
		for _, ask := range do {
			until(func() bool {
				state := ask("CLUSTER", "INFO")
				return strings.Contains(state, "cluster_state:ok") && strings.Contains(state, fmt.Sprintf("cluster_known_nodes:%d\r", masters+1)) && !strings.Contains(ask("CLUSTER", "NODES"), "handshake")
			})
		}
	}
	whole()
	do[masters]("CLUSTER", "REPLICATE", do[0]("CLUSTER", "MYID"))
	until(func() bool { return strings.Contains(do[masters]("INFO", "replication"), "master_link_status:up") })
	until(func() bool { return strings.Contains(do[1]("CLUSTER", "NODES"), " slave ") })
	for _, ask := range do { // from now on nobody is taken for dead where a machine is busy
		ask("CONFIG", "SET", "cluster-node-timeout", 10_000)
	}
	whole()
	c.First = c.nodes[0]
	c.URL = fmt.Sprintf("redis://%s?addr=%s&addr=%s", c.nodes[0].address(), c.nodes[1].address(), c.nodes[2].address())
	return c
}

// CutReplica keeps what is written from now on from the replica of the first
// master, as a lag would: for a test that kills the master next.
func (c *RedisCluster) CutReplica(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	master := redis.NewClient(&redis.Options{Addr: c.First.address(), DisableIdentity: true})
	defer master.Close()
	replica := redis.NewClient(&redis.Options{Addr: c.nodes[len(c.nodes)-1].address(), DisableIdentity: true})
	defer replica.Close()
	n, err := master.Do(ctx, "WAIT", 1, 10_000).Int()
	if err == nil && n != 1 {
		err = errors.New("the replica is not there")
	}
	for _, node := range c.nodes { // whoever is dead from now on is so soon
		rdb := redis.NewClient(&redis.Options{Addr: node.address(), DisableIdentity: true})
		err = errors.Join(err, rdb.ConfigSet(ctx, "cluster-node-timeout", "500").Err(), rdb.Close())
	}
	err = errors.Join(err, replica.ConfigSet(ctx, "masterauth", "refused").Err(), master.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err())
	for down := false; !down && err == nil; {
		var state string
		state, err = replica.Info(ctx, "replication").Result()
		down = strings.Contains(state, "master_link_status:down")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *RedisServer) address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// Kill ends the server; it keeps nothing. Connections to it are refused from
// then on.
func (s *RedisServer) Kill() {
	if s.run != nil {
		s.run.stop()
		s.run = nil
	}
}

// Start starts a killed server again: same port, no data.
func (s *RedisServer) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

func newRedis(more ...string) (*RedisServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &RedisServer{URL: fmt.Sprintf("redis://127.0.0.1:%d/0", port), port: port, more: more}
	return s, s.start()
}

func (s *RedisServer) start() error {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("redis-server: %w", errNoBinary)
	}
	s.run, err = supervise("redis", "TERM", func(dir string) []string {
		return append([]string{binary, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", dir,
			"--save", "", "--appendonly", "no", "--daemonize", "no",
			"--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"}, s.more...) // nobody waits for a replica, or for more of them
	})
	if err != nil {
		return err
	}
	return s.run.until(func() error { return pingRedis(s.port) })
}

func pingRedis(port int) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	answer := make([]byte, 7)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != "+PONG\r\n" {
		return fmt.Errorf("redis answered %q", answer)
	}
	return nil
}

func startPostgres() (string, error) {
	initdb, err := postgresBinary("initdb")
	if err != nil {
		return "", err
	}
	postgres, err := postgresBinary("postgres")
	if err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	// INT is PostgreSQL's fast shutdown. initdb and the server run in one shell
	// so that one set of credentials and one log serve both.
	script := `"$1" -D "$3/data" -A trust -U postgres --no-sync --locale=C.UTF-8 -E UTF8 && ` +
		`exec "$2" -D "$3/data" -p "$4" -c listen_addresses=127.0.0.1 -c unix_socket_directories= ` +
		`-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=200`
	run, err := supervise("postgres", "INT", func(dir string) []string {
		return []string{"/bin/sh", "-c", script, "sh", initdb, postgres, dir, strconv.Itoa(port)}
	})
	if err != nil {
		return "", err
	}
	dsn := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	return dsn, run.until(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// PostgresPair is a primary and its synchronous replica, which belong to one
// test: the one may be stopped, and the other promoted.
type PostgresPair struct {
	URL        string // of both: of whichever takes writes
	ReplicaURL string
	ports      [2]int
	primary    *supervised
	replica    *supervised
	keep       string // the primary's folder, which outlives a stop
}

// Nothing is on disk for sure, as on the other servers, but a commit is answered
// when the replica has it.
const postgresOptions = ` -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c full_page_writes=off -c max_connections=200 -c wal_level=replica`

// StartPostgresPair starts both and makes a database in them.
func StartPostgresPair(t testing.TB) *PostgresPair {
	t.Helper()
	p := &PostgresPair{}
	if err := p.start(t); errors.Is(err, errNoBinary) {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *PostgresPair) start(t testing.TB) (err error) {
	for i := range p.ports {
		if p.ports[i], err = freePort(); err != nil {
			return err
		}
	}
	p.URL = fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/pair?sslmode=disable&target_session_attrs=read-write", p.ports[0], p.ports[1])
	p.ReplicaURL = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/pair?sslmode=disable", p.ports[1])
	if p.keep, err = os.MkdirTemp("/tmp", "cr-pair-"); err != nil {
		return err
	}
	t.Cleanup(func() {
		p.StopPrimary()
		p.StopReplica()
		os.RemoveAll(p.keep)
	})
	if os.Geteuid() == 0 {
		uid, gid, err := unprivileged()
		if err != nil {
			return err
		}
		if err := os.Chown(p.keep, uid, gid); err != nil {
			return err
		}
	}
	initdb, err := postgresBinary("initdb")
	if err != nil {
		return err
	}
	copier, err := postgresBinary("pg_basebackup")
	if err != nil {
		return err
	}
	server, err := postgresBinary("postgres")
	if err != nil {
		return err
	}
	if p.primary, err = p.run(p.ports[0], `"$2" -D "$4/data" -A trust -U postgres --no-sync --locale=C.UTF-8 -E UTF8 && exec "$1" -D "$4/data" -p "$5"`, server, initdb, copier); err != nil {
		return err
	}
	if err := p.sql(p.ports[0], "CREATE DATABASE pair"); err != nil {
		return err
	}
	// The folder of the replica is its own supervisor's, and goes with it.
	p.replica, err = p.run(p.ports[1], fmt.Sprintf(`"$3" -D data -d "host=127.0.0.1 port=%d user=postgres" -R -X stream -c fast --no-sync && exec "$1" -D data -p "$5"`, p.ports[0]), server, initdb, copier)
	if err != nil {
		return err
	}
	if err := p.sql(p.ports[0], "ALTER SYSTEM SET synchronous_standby_names = '*'"); err != nil {
		return err
	}
	return p.sql(p.ports[0], "SELECT pg_reload_conf()")
}

// run starts one of the two and waits until it answers.
func (p *PostgresPair) run(port int, script, server, initdb, copier string) (*supervised, error) {
	run, err := supervise("postgres", "QUIT", func(string) []string { // at once, as when the machine is lost
		return []string{"/bin/sh", "-c", script + postgresOptions, "sh", server, initdb, copier, p.keep, strconv.Itoa(port)}
	})
	if err != nil {
		return nil, err
	}
	return run, run.until(func() error { return p.sql(port, "SELECT 1") })
}

func (p *PostgresPair) sql(port int, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, text)
	return err
}

// StopPrimary ends the primary without a goodbye; its data stay.
func (p *PostgresPair) StopPrimary() {
	if p.primary != nil {
		p.primary.stop()
		p.primary = nil
	}
}

// StartPrimary starts it again on its data.
func (p *PostgresPair) StartPrimary(t testing.TB) {
	t.Helper()
	server, err := postgresBinary("postgres")
	if err == nil {
		p.primary, err = p.run(p.ports[0], `exec "$1" -D "$4/data" -p "$5"`, server, "", "")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// StopReplica ends the replica without a goodbye; the primary answers no commit
// from then on.
func (p *PostgresPair) StopReplica() {
	if p.replica != nil {
		p.replica.stop()
		p.replica = nil
	}
}

// OnReplica runs a statement of its superuser there.
func (p *PostgresPair) OnReplica(t testing.TB, text string) {
	t.Helper()
	if err := p.sql(p.ports[1], text); err != nil {
		t.Fatal(err)
	}
}

// OnPrimary runs a statement of its superuser on the primary.
func (p *PostgresPair) OnPrimary(t testing.TB, text string) {
	t.Helper()
	if err := p.sql(p.ports[0], text); err != nil {
		t.Fatal(err)
	}
}

// Promote makes the replica the one that takes writes.
func (p *PostgresPair) Promote(t testing.TB) {
	t.Helper()
	if err := p.sql(p.ports[1], "SELECT pg_promote(true, 60)"); err != nil {
		t.Fatal(err)
	}
}

// Fork leaves the pair with two pasts: a third server, cut off before before() wrote
// what the replica has, is promoted after the primary was lost. It gives its address.
func (p *PostgresPair) Fork(t testing.TB, before func()) (url string) {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	server, err := postgresBinary("postgres")
	if err != nil {
		t.Fatal(err)
	}
	copier, err := postgresBinary("pg_basebackup")
	if err != nil {
		t.Fatal(err)
	}
	third, err := p.run(port, fmt.Sprintf(`"$3" -D data -d "host=127.0.0.1 port=%d user=postgres" -R -X stream -c fast --no-sync && exec "$1" -D data -p "$5"`, p.ports[0]), server, "", copier)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(third.stop)
	for _, text := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()"} {
		if err := p.sql(port, text); err != nil {
			t.Fatal(err)
		}
	}
	limit := time.Now().Add(startLimit)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C { // until it hears nothing more
		if err := p.sql(port, "SELECT 1 / (SELECT count(*) FROM pg_stat_wal_receiver)"); err != nil && strings.Contains(err.Error(), "22012") {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the third server goes on hearing of the primary")
		}
	}
	before()
	p.StopPrimary()
	if err := p.sql(port, "SELECT pg_promote(true, 60)"); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/pair?sslmode=disable", port)
}

// Open opens whichever takes writes, and brings its schema up.
func (p *PostgresPair) Open(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(context.Background(), store.Config{URL: p.URL, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if _, err := migrations.Up(context.Background(), st.SQLDB(), true); err != nil {
		t.Fatal(err)
	}
	return st
}

// postgresBinary prefers Debian's folder of the highest version, because what
// stands in the PATH may be a wrapper of one program without its siblings.
func postgresBinary(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	sort.Slice(found, func(i, j int) bool { return version(found[i]) > version(found[j]) })
	if len(found) > 0 {
		return found[0], nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("PostgreSQL's %s: %w", name, errNoBinary)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// supervised is a server below the shell that outlives the test binary just
// long enough to stop the server and remove its folder.
type supervised struct {
	dir    string
	hold   *os.File // the write end of the shell's standard input
	exited chan struct{}
}

// The shell watches both: the end of its input (stop the server) and the end
// of the server (so that a server which cannot start is noticed at once).
const supervisor = `dir=$1; signal=$2; shift 2
"$@" </dev/null & pid=$!
( read -r _; kill -"$signal" "$pid" ) 2>/dev/null <&3 & watch=$!
exec 3<&-
wait "$pid"; status=$?
kill "$watch" 2>/dev/null
[ "$status" = 0 ] || cat "$dir/log" >"$dir.failed" 2>/dev/null
rm -rf "$dir"
exit "$status"`

func supervise(name, signal string, command func(dir string) []string) (*supervised, error) {
	dir, err := os.MkdirTemp("/tmp", "cr-"+name+"-")
	if err != nil {
		return nil, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		uid, gid, err := unprivileged()
		if err != nil {
			return nil, err
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			return nil, err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	read, hold, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", supervisor, "sh", dir, signal}, command(dir)...)...)
	cmd.Dir, cmd.SysProcAttr = dir, attr
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{read} // descriptor 3
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8"}
	if err := cmd.Start(); err != nil {
		hold.Close()
		os.RemoveAll(dir)
		return nil, err
	}
	s := &supervised{dir: dir, hold: hold, exited: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

// stop ends the server and waits until it and its folder are gone.
func (s *supervised) stop() {
	s.hold.Close()
	<-s.exited
}

// until polls ready until it succeeds, the server ends or startLimit is over.
func (s *supervised) until(ready func() error) error {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			log, _ := os.ReadFile(s.dir + ".failed")
			os.Remove(s.dir + ".failed")
			return fmt.Errorf("test server ended at start: %s", strings.TrimSpace(string(log)))
		case <-limit.C:
			s.stop()
			return fmt.Errorf("test server gives no answer after %s: %w", startLimit, err)
		case <-tick.C:
		}
	}
}

// unprivileged is who servers run as when the tests run as root, which
// PostgreSQL refuses.
func unprivileged() (uid, gid int, err error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, lookup := user.Lookup(name)
		if lookup != nil {
			err = lookup
			continue
		}
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
		return uid, gid, nil
	}
	return 0, 0, err
}
