package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainreactions/chainreactions/app/egress"
	"github.com/chainreactions/chainreactions/app/sandbox"
	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/research"
	"github.com/chainreactions/chainreactions/migrations/testdb"
)

// bench is Providers over the sandbox with a clock that moves only while
// somebody waits.
type bench struct {
	*Providers
	db    testdb.DB
	box   *sandbox.Sandbox
	logs  *lockedBuffer
	mu    sync.Mutex
	at    time.Time
	waits []time.Duration
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newBench(t *testing.T, db testdb.DB, change func(*Config)) *bench {
	t.Helper()
	box, err := sandbox.Start(sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	b := &bench{db: db, box: box, at: noon, logs: &lockedBuffer{}}
	c := Config{
		Store: db.Store, Egress: egress.New(egress.Config{}), EmulatedHost: box.Host,
		Accounts: map[string]Account{
			Gemini:     {BaseURL: box.URL(sandbox.Gemini), Keys: []string{secret}, Model: "gemini-3.8-flash", Sandbox: true},
			OpenAI:     {BaseURL: box.URL(sandbox.OpenAI), Keys: []string{secret}, Model: "qwen3", Sandbox: true},
			BrightData: {BaseURL: box.URL(sandbox.BrightData), Keys: []string{secret}, Zone: "serp_api1", Sandbox: true},
			SearXNG:    {BaseURL: box.URL(sandbox.SearXNG), Sandbox: true},
			Linkup:     {BaseURL: box.URL(sandbox.Linkup), Keys: []string{secret}, Sandbox: true},
		},
		Logger: slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: func() time.Time {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.at
		},
		Sleep: func(ctx context.Context, d time.Duration) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.at = b.at.Add(d)
			b.waits = append(b.waits, d)
			return ctx.Err()
		},
		Jitter: func() float64 { return 0.5 },
	}
	if change != nil {
		change(&c)
	}
	b.Providers = New(c)
	return b
}

const secret = "sk-live-3f9a7c-do-not-show"

// only leaves one vendor of a kind configured.
func only(names ...string) func(*Config) {
	return func(c *Config) {
		for name := range c.Accounts {
			if !slices.Contains(names, name) {
				delete(c.Accounts, name)
			}
		}
	}
}

var call = research.Call{Run: "run_1", Step: "step/1"}

func integrate(t *testing.T, b *bench) research.Prompt {
	page := func(id string) string {
		for _, p := range b.box.Truth().Pages {
			if p.ID == id {
				return p.Body
			}
		}
		t.Fatalf("no page %s", id)
		return ""
	}
	data, _ := json.MarshalIndent(map[string]any{"task": "integrate", "institution": []string{"Northmere University"}, "risk_item": []string{"Qinglan University of Aerospace Technology"},
		"sources": []any{map[string]any{"id": "k3f", "passages": []string{page("nm-lab")}}, map[string]any{"id": "p9x", "passages": []string{page("ql-lab")}}}}, "", " ")
	return research.Prompt{Call: call, System: "Read the data.", User: "<data-7f>\n" + string(data) + "\n</data-7f>", Schema: json.RawMessage(`{"type":"object","required":["relations"]}`)}
}

func relations() research.Prompt {
	data, _ := json.Marshal(map[string]any{"task": "relations", "institution": map[string]any{"name": "Northmere University"}, "risk_items": []any{map[string]any{"id": "r1", "name": "Hengyue Precision Instruments Group"}}})
	return research.Prompt{Call: call, System: "Search.", User: "<data-7f>\n" + string(data) + "\n</data-7f>", Grounded: true}
}

func listed(b *bench) research.ProfileRequest {
	data, _ := json.Marshal(map[string]any{"task": "listed", "institution": "Northmere University", "organisation": map[string]any{"name": "Qinglan University of Aerospace Technology"}})
	return research.ProfileRequest{Call: call, Question: "Search.\n<data-7f>\n" + string(data) + "\n</data-7f>", Schema: json.RawMessage(`{"type":"object"}`)}
}

// ledgerRows gives how many requests the ledger knows, and fails on one that
// was not settled.
func ledgerRows(t *testing.T, b *bench) (rows []struct {
	Provider, State, Reason, KeyLabel, Model string
	CostMicros                               int64
	Estimated                                bool
}) {
	t.Helper()
	if err := b.db.Read(b.db.In(b.db.A), func(ctx context.Context) error {
		return b.db.SQL(ctx, "SELECT provider, state, reason, key_label, model, cost_micros, estimated FROM provider_calls WHERE tenant_id = @tenant ORDER BY id", nil).Scan(&rows).Error
	}); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.State == "sent" {
			t.Errorf("a request is not settled: %+v", r)
		}
	}
	return rows
}

// Every fault of every vendor ends in one clear typed error after the right
// number of requests, or in an answer that says how it ended; never in an empty
// answer. Whatever happens the emulator, the ledger and the usage agree on how
// many requests there were, and no key shows anywhere.
func TestEveryFaultOfEveryVendor(t *testing.T) {
	type ask struct {
		name    string
		vendor  string
		do      func(ctx context.Context, b *bench) (usage research.Usage, said string, err error)
		answers string // what said is when all is well
	}
	generation := func(g research.Generation, err error) (research.Usage, string, error) {
		return g.Usage, fmt.Sprintf("%s %t", g.Finish, strings.Contains(g.Text, "opened a joint laboratory")), err
	}
	search := func(engine string) func(ctx context.Context, b *bench) (research.Usage, string, error) {
		return func(ctx context.Context, b *bench) (research.Usage, string, error) {
			r, err := b.Search(ctx, research.SearchRequest{Call: call, Engine: engine, Query: `"青岚航天科技大学" "Northmere University"`, Country: "CN"})
			said := fmt.Sprint(len(r.Results))
			for _, hit := range r.Results {
				if hit.URL == "https://www.qinglan-aero.example/xinwen/2021/0520.htm" && hit.Title != "" && hit.Snippet != "" {
					said = "found"
				}
			}
			return r.Usage, said, err
		}
	}
	asks := []ask{
		{"gemini", Gemini, func(ctx context.Context, b *bench) (research.Usage, string, error) {
			return generation(b.Generate(ctx, integrate(t, b), nil))
		}, "stop true"},
		{"gemini stream", Gemini, func(ctx context.Context, b *bench) (research.Usage, string, error) {
			return generation(b.Generate(ctx, integrate(t, b), func(int) {}))
		}, "stop true"},
		{"openai", OpenAI, func(ctx context.Context, b *bench) (research.Usage, string, error) {
			return generation(b.Generate(ctx, integrate(t, b), nil))
		}, "stop true"},
		{"openai stream", OpenAI, func(ctx context.Context, b *bench) (research.Usage, string, error) {
			return generation(b.Generate(ctx, integrate(t, b), func(int) {}))
		}, "stop true"},
		{"google", BrightData, search("google"), "found"},
		{"bing", BrightData, search("bing"), "found"},
		{"baidu", BrightData, search("baidu"), "found"},
		{"duckduckgo", BrightData, search("duckduckgo"), "found"},
		{"searxng", SearXNG, search("google"), "found"},
		{"linkup search", Linkup, search(Linkup), "found"},
		{"linkup profile", Linkup, func(ctx context.Context, b *bench) (research.Usage, string, error) {
			r, err := b.Profile(ctx, listed(b))
			return r.Usage, fmt.Sprintf("%t %d", strings.Contains(string(r.Data), "opened a joint laboratory"), len(r.Sources)), err
		}, "true 4"},
	}
	type end struct {
		code   string // of the error, or what the answer says
		reason Reason
		sent   int
	}
	ok := end{}
	refused := func(r Reason) end { return end{"provider_refused", r, 1} }
	away := func(r Reason, sent int) end { return end{"provider_unavailable", r, sent} }
	unreadable := end{"provider_malformed", Malformed, 2}
	common := map[string]end{
		"latency": ok, "hang": away(TimedOut, 3), "429": away(RateLimited, 3), "500": away(Overloaded, 3), "503": away(Overloaded, 3), "reset": away(Unreachable, 3),
		"cut": away(Cut, 3), "malformed": unreadable, "wrong_types": unreadable, "empty_body": unreadable, "html": unreadable,
		"key": refused(KeyRefused), "quota": away(QuotaSpent, 1),
	}
	empty := end{"provider_malformed", Empty, 2}
	special := map[string]map[string]end{
		"gemini": {"empty": empty, "thoughts": {"length false", "", 2}, "truncated": {"length", "", 1}, "blocked": {"blocked false", "", 1}, "safety": {"blocked false", "", 1}},
		"gemini stream": {"empty": empty, "thoughts": {"length false", "", 2}, "truncated": {"length", "", 1}, "blocked": {"blocked false", "", 1}, "safety": {"blocked false", "", 1},
			"cut_clean": away(Cut, 3), "stream_error": away(Overloaded, 3), "empty_body": away(Cut, 3), "html": away(Cut, 3)},
		"openai":         {"empty": empty, "truncated": {"length", "", 1}, "blocked": {"blocked false", "", 1}},
		"openai stream":  {"empty": empty, "truncated": {"length", "", 1}, "cut_clean": away(Cut, 3), "empty_body": away(Cut, 3), "html": away(Cut, 3)},
		"google":         {"captcha": away(Captcha, 1), "inner_503": away(Overloaded, 3), "repeat": away(Overloaded, 3), "no_result": {"0", "", 1}},
		"bing":           {"no_result": {"0", "", 1}},
		"baidu":          {"captcha": away(Captcha, 1), "no_result": {"0", "", 1}},
		"duckduckgo":     {"captcha": away(Captcha, 1), "no_result": {"0", "", 1}},
		"searxng":        {"unresponsive": away(Overloaded, 3), "no_result": {"0", "", 1}, "key": refused(Refused), "quota": away(RateLimited, 3)},
		"linkup search":  {"no_result": {"0", "", 1}},
		"linkup profile": {"no_result": {"false 0", "", 1}},
	}
	db := testdb.SQLite(t)
	for _, a := range asks {
		ends := map[string]end{"": ok}
		for kind, e := range common {
			ends[kind] = e
		}
		for kind, e := range special[a.name] {
			ends[kind] = e
		}
		for kind, want := range ends {
			t.Run(a.name+" "+kind, func(t *testing.T) {
				db := db
				db.A = newTenant(t, db)
				b := newBench(t, db, func(c *Config) { only(a.vendor)(c); c.Attempts = 3 })
				if kind != "" {
					b.box.Fault(sandbox.Fault{Kind: kind, AfterMS: 7000})
				}
				if kind == "latency" {
					b.box.Heal()
					b.box.Fault(sandbox.Fault{Kind: kind, AfterMS: 5})
				}
				if kind == "hang" {
					b.Timeout = 100 * time.Millisecond
				}
				usage, said, err := a.do(b.db.In(b.db.A), b)
				switch {
				case want == ok && (err != nil || said != a.answers):
					t.Fatalf("said %q, %v", said, err)
				case want == ok:
					want.sent = 1
				case want.reason != "":
					var f *Failure
					if domain.CodeOf(err) != want.code || !errors.As(err, &f) || f.Reason != want.reason || f.Attempts != want.sent {
						t.Errorf("%v; want %s because of %s after %d", err, want.code, want.reason, want.sent)
					}
				case err != nil || !strings.HasPrefix(said, want.code):
					t.Errorf("said %q, %v; want %q", said, err, want.code)
				}
				rows := ledgerRows(t, b)
				n := len(b.box.Calls())
				arrived := n == want.sent || kind == "hang" && n < want.sent // what was given up on a busy machine may never have arrived, and counts
				if !arrived || len(rows) != want.sent || usage.Calls != int64(want.sent) {
					t.Errorf("%d requests, %d in the ledger, %d in usage; want %d", n, len(rows), usage.Calls, want.sent)
				}
				var cost int64
				for _, r := range rows {
					cost += r.CostMicros
				}
				if cost != usage.CostMicros {
					t.Errorf("cost %d in the ledger, %d in usage", cost, usage.CostMicros)
				}
				if kind == "429" && a.vendor != SearXNG && (len(b.waits) != 2 || b.waits[0] < 7*time.Second) {
					t.Errorf("waited %v; the vendor asked for 7 seconds", b.waits)
				}
				if !usage.Sandbox {
					t.Error("the answer does not say that it is the sandbox's")
				}
				shown := b.logs.String() + fmt.Sprint(err)
				for e := err; e != nil; e = errors.Unwrap(e) {
					shown += e.Error()
				}
				if strings.Contains(shown, secret) || strings.Contains(fmt.Sprint(rows), secret) {
					t.Errorf("the key shows: %s", shown)
				}
			})
		}
	}
}

func newTenant(t *testing.T, db testdb.DB) string {
	t.Helper()
	id := domain.NewID("ten")
	if err := db.Tx(domain.System(context.Background(), "test fixture"), func(ctx context.Context) error {
		_, err := db.Exec(ctx, "INSERT INTO tenants (id, slug, name, created_at, updated_at) VALUES (@id, @id, @id, @now, @now)", map[string]any{"id": id, "now": noon})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

// Keys are used in turn; one that is told to wait or refused is left alone for
// as long as that holds, and the others go on without waiting.
func TestKeysRotate(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, func(c *Config) {
		only(Linkup)(c)
		a := c.Accounts[Linkup]
		a.Keys = []string{"good-1", "bad-2", "good-3", "spent-4"}
		c.Accounts[Linkup] = a
	})
	ctx := db.In(db.A)
	for range 6 {
		if _, err := b.Profile(ctx, listed(b)); err != nil {
			t.Fatal(err)
		}
	}
	var used []string
	for _, c := range b.box.Calls() {
		used = append(used, c.Key)
	}
	want := []string{"good-1", "bad-2", "good-3", "spent-4", "good-1", "good-3", "good-1", "good-3"}
	if !slices.Equal(used, want) || len(b.waits) != 0 {
		t.Errorf("used %v, waited %v; want %v", used, b.waits, want)
	}
	// Told to wait, a key rests for that long; the other answers at once.
	b.box.Reset()
	b.box.Fault(sandbox.Fault{Kind: "429", Times: 1, AfterMS: 20_000})
	for range 3 {
		if _, err := b.Profile(ctx, listed(b)); err != nil {
			t.Fatal(err)
		}
	}
	if h := b.Health()[Linkup]; h != "degraded" {
		t.Errorf("health: %s", h)
	}
	used = nil
	for _, c := range b.box.Calls() {
		used = append(used, c.Key+" "+c.Fault)
	}
	if want := []string{"good-1 429", "good-3 ", "good-3 ", "good-3 "}; !slices.Equal(used, want) || len(b.waits) != 0 {
		t.Errorf("used %q, waited %v", used, b.waits)
	}
	// A refused key is tried again after a while: it may have been paid for.
	b.at = b.at.Add(refusedFor)
	b.box.Reset()
	for range 4 {
		if _, err := b.Profile(ctx, listed(b)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.box.Calls()); n < 5 {
		t.Errorf("the refused keys were not tried again: %d calls", n)
	}
	for _, r := range ledgerRows(t, b) {
		if strings.Contains(r.KeyLabel, "good") || strings.Contains(r.KeyLabel, "bad") {
			t.Errorf("the ledger has a key: %+v", r)
		}
	}
}

// A vendor that says only "too fast" is left alone for a second, and calls that
// wait because of other calls lose none of their own attempts.
func TestRateLimitedTogether(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, func(c *Config) { only(Linkup)(c); c.Attempts = 3 })
	b.box.Fault(sandbox.Fault{Kind: "429"})
	if _, err := b.Profile(db.In(db.A), listed(b)); domain.CodeOf(err) != "provider_unavailable" || len(b.box.Calls()) != 3 || len(b.waits) != 2 || b.waits[0] < time.Second {
		t.Errorf("%v after %d requests, waited %v", err, len(b.box.Calls()), b.waits)
	}
	b.at = b.at.Add(time.Minute)
	b.box.Reset()
	b.box.Fault(sandbox.Fault{Kind: "429", Times: 4})
	var group sync.WaitGroup
	for range 12 {
		group.Go(func() {
			if _, err := b.Profile(db.In(db.A), listed(b)); err != nil {
				var f *Failure
				if !errors.As(err, &f) || f.Attempts < 3 {
					t.Errorf("given up after its own attempts were not used: %v", err)
				}
			}
		})
	}
	group.Wait()
}

// How a vendor is every process finds by the requests of all: one that sends none
// itself too, and until one succeeds or they are old.
func TestOneLooksForAll(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		set := func(c *Config) { only(Linkup)(c); c.Attempts = 1 }
		asks, looks := newBench(t, db, set), newBench(t, db, set)
		ctx := db.In(db.A)
		is := func(state, why string) {
			t.Helper()
			looks.at = asks.at
			if s, w := looks.Look(ctx, Linkup); s != state || !strings.Contains(w, why) || (why == "") != (w == "") {
				t.Errorf("it is %s: %q, want %s: %q", s, w, state, why)
			}
		}
		ask := func(n int, fault string) {
			t.Helper()
			asks.box.Reset()
			if fault != "" {
				asks.box.Fault(sandbox.Fault{Kind: fault})
			}
			for range n {
				if _, err := asks.Profile(ctx, listed(asks)); (err == nil) != (fault == "") {
					t.Fatal(err)
				}
				asks.at = asks.at.Add(time.Second)
			}
		}
		is("emulated", "")
		ask(1, "key")
		is("down", "key_refused")
		asks.at = asks.at.Add(refusedFor)
		ask(1, "")
		is("emulated", "")
		ask(1, "503")
		is("emulated", "")
		ask(1, "503")
		is("degraded", "overloaded")
		ask(3, "503")
		is("down", "overloaded")
		asks.at = asks.at.Add(breakFor)
		ask(1, "")
		is("emulated", "")
		ask(2, "503")
		is("degraded", "overloaded")
		asks.at = asks.at.Add(shakyFor)
		is("emulated", "")
		if s, _ := looks.Look(ctx, Gemini); s != "not_configured" {
			t.Error(s)
		}
	})
}

// After five failures in a row a vendor is left alone for half a minute, then
// one call may try, and its success closes the breaker. What is refused
// meanwhile is not sent and not booked.
func TestTheBreaker(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, func(c *Config) { only(Linkup)(c); c.Attempts = 1 })
	ctx := db.In(db.A)
	b.box.Fault(sandbox.Fault{Kind: "503"})
	for range 8 {
		if _, err := b.Profile(ctx, listed(b)); domain.CodeOf(err) != "provider_unavailable" {
			t.Fatal(err)
		}
	}
	if n := len(b.box.Calls()); n != breakAfter || len(ledgerRows(t, b)) != n {
		t.Errorf("%d calls reached a vendor that is down, want %d", n, breakAfter)
	}
	var e *domain.Error
	_, err := b.Profile(ctx, listed(b))
	if !errors.As(err, &e) || e.RetryAfter != breakFor {
		t.Errorf("an open breaker says %v", err)
	}
	if h := b.Health()[Linkup]; h != "down" {
		t.Errorf("health: %s", h)
	}
	b.at = b.at.Add(breakFor)
	_, _ = b.Profile(ctx, listed(b))
	_, _ = b.Profile(ctx, listed(b))
	if n := len(b.box.Calls()); n != breakAfter+1 {
		t.Errorf("%d calls after the pause, want one more", n-breakAfter)
	}
	b.at = b.at.Add(breakFor)
	b.box.Heal()
	for range 3 {
		if _, err := b.Profile(ctx, listed(b)); err != nil {
			t.Errorf("after it is well again: %v", err)
		}
	}
}

// Where one vendor gives nothing the next one is asked, and the answer costs
// what both cost; a request that is wrong is wrong for all.
func TestTheNextVendorIsAsked(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, func(c *Config) { c.Attempts = 2 })
	ctx := db.In(db.A)
	b.box.Fault(sandbox.Fault{Vendor: sandbox.Gemini, Kind: "cut"})
	b.box.Fault(sandbox.Fault{Vendor: sandbox.BrightData, Kind: "captcha"})
	g, err := b.Generate(ctx, integrate(t, b), nil)
	if err != nil || g.Usage.Provider != OpenAI || g.Usage.Calls != 3 || g.Usage.CostMicros == 0 || !g.Usage.Estimated {
		t.Errorf("%+v %v", g.Usage, err)
	}
	r, err := b.Search(ctx, research.SearchRequest{Call: call, Engine: "yandex", Query: `"Северный маяк"`, Country: "RU"})
	if err != nil || r.Usage.Provider != SearXNG || len(r.Results) == 0 || r.Usage.Calls != 2 {
		t.Errorf("%+v %v", r, err)
	}
	if _, err = b.Generate(ctx, relations(), nil); domain.CodeOf(err) != "provider_unavailable" {
		t.Errorf("a model that cannot search the web was asked to: %v", err)
	}
	b.box.Reset()
	if _, err := b.Search(ctx, research.SearchRequest{Call: call, Engine: "altavista", Query: "x"}); domain.CodeOf(err) != "provider_refused" || len(b.box.Calls()) != 0 {
		t.Errorf("%v after %d calls", err, len(b.box.Calls()))
	}
}

// A kind of vendor that nobody configured is said to be missing, by the names
// of the settings.
func TestNotConfigured(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, only())
	ctx := db.In(db.A)
	_, err1 := b.Generate(ctx, integrate(t, b), nil)
	_, err2 := b.Search(ctx, research.SearchRequest{Engine: "google", Query: "x"})
	_, err3 := b.Profile(ctx, listed(b))
	_, err4 := b.Generate(ctx, relations(), nil)
	for setting, err := range map[string]error{"GEMINI_API_KEY": err1, "BRIGHT_DATA_SERP_ZONE": err2, "LINKUP_API_KEY": err3, "searches the web": err4} {
		if domain.CodeOf(err) != "provider_not_configured" || domain.KindOf(err) != domain.Unavailable || !strings.Contains(err.Error(), setting) {
			t.Errorf("%v; want %s to be missing", err, setting)
		}
	}
	if e := b.Engines("CN", "zh"); e != nil {
		t.Errorf("engines without a search: %v", e)
	}
	if got := Missing(map[string]Account{OpenAI: {BaseURL: "http://x", Model: "m"}}); !slices.Equal(got, []string{BrightData, Linkup}) {
		t.Errorf("missing beside a model of one's own: %v", got)
	}
}

// The budget holds for calls as they are really made, many at once, for each
// tenant and for all; what is refused is not sent.
func TestTheBudgetBlocksCalls(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db testdb.DB) {
		b := newBench(t, db, func(c *Config) {
			only(Linkup)(c)
			c.Limits = map[string]Limits{Linkup: {Day: Limit{Calls: 30}, TenantDay: Limit{Micros: 20 * linkupStandardAnswer}}}
		})
		var group sync.WaitGroup
		var mu sync.Mutex
		got := map[string]int{}
		for i := range 60 {
			group.Go(func() {
				tenant := db.A
				if i%2 == 1 {
					tenant = db.B
				}
				_, err := b.Profile(db.In(tenant), listed(b))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					got["answered"]++
				} else {
					got[domain.CodeOf(err)]++
				}
			})
		}
		group.Wait()
		if n := len(b.box.Calls()); n != 30 || got["answered"] != 30 || got["provider_budget_exceeded"] != 30 {
			t.Errorf("%d calls were sent: %v", n, got)
		}
		report, err := b.Report(context.Background(), ReportRequest{})
		if err != nil {
			t.Fatal(err)
		}
		s := report.Data[slices.Index(Names, Linkup)]
		if h := b.Health(); h[Linkup] != "emulated" || h[Gemini] != "not_configured" {
			t.Errorf("health: %v", h)
		}
		if s.Endings["ok"] != 30 || len(s.Endings) != 1 {
			t.Errorf("endings: %v", s.Endings)
		}
		if !s.Configured || !s.Sandbox || s.Day.Calls != 30 || s.Day.CallsLimit != 30 || s.Day.CostMicros != 30*linkupStandardAnswer || len(s.Last30Days) != 1 || s.Last30Days[0].Calls != 30 {
			t.Errorf("report: %+v", s)
		}
	})
}

// When the caller goes away nothing more is sent, and what was sent is booked
// at its worst, for the vendor may bill it.
func TestACallerThatGoesAway(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, only(Linkup))
	ctx, cancel := context.WithCancel(db.In(db.A))
	b.box.Fault(sandbox.Fault{Kind: "hang"})
	done := make(chan error)
	go func() {
		_, err := b.Profile(ctx, listed(b))
		done <- err
	}()
	for len(b.box.Calls()) == 0 { // until the request has arrived
		runtime.Gosched()
	}
	cancel()
	if err := <-done; domain.KindOf(err) != domain.Canceled {
		t.Errorf("%v", err)
	}
	rows := ledgerRows(t, b)
	if len(rows) != 1 || rows[0].Reason != "canceled" || rows[0].CostMicros != linkupStandardAnswer || !rows[0].Estimated {
		t.Errorf("%+v", rows)
	}
}

// A grounded answer comes with its pages' own addresses and the sentences that
// rest on them; one without grounding has none, and is no error.
func TestGrounding(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, only(Gemini))
	for _, progress := range []func(int){nil, func(int) {}} {
		g, err := b.Generate(db.In(db.A), relations(), progress)
		if err != nil {
			t.Fatal(err)
		}
		var urls []string
		for _, s := range g.Sources {
			urls = append(urls, s.URL)
		}
		if !slices.Contains(urls, "https://www.northmere.example/people/wei-lianzhou") || len(urls) != 6 || len(g.Supports) != 1 || len(g.Supports[0].Sources) != 6 ||
			g.Supports[0].Text != "Northmere University is tied to Hengyue Precision Instruments Group through Brightwater Applied Research Foundation and Wei Lianzhou." {
			t.Errorf("sources %v supports %+v", urls, g.Supports)
		}
	}
	b.box.Fault(sandbox.Fault{Vendor: sandbox.Gemini, Kind: "bare"})
	if g, err := b.Generate(db.In(db.A), relations(), nil); err != nil || g.Sources != nil || g.Finish != research.FinishStop {
		t.Errorf("%+v %v", g.Sources, err)
	}
}

// Pages that the model is to open are named by the tool's own metadata, each with what
// became of it, unary and streamed; what they cost is in the usage and in the ledger.
// Without pages the tool is not given.
func TestURLContext(t *testing.T) {
	const page, gone = "https://www.tokiwa-carbon.example/investors/2023/supply-note", "https://www.tokiwa-carbon.example/moved"
	data, _ := json.Marshal(map[string]any{"task": "relations", "institution": map[string]any{"name": "Tokiwa Carbon Materials"}, "risk_items": []any{map[string]any{"id": "r1", "name": "Volgoterm Machine Works"}}, "pages": []string{page, gone}})
	in := research.Prompt{Call: call, System: "Search.", User: "<data-7f>\n" + string(data) + "\n</data-7f>", Grounded: true}
	const quote = "has delivered pressure hull rings to Volgoterm"
	db := testdb.SQLite(t)
	b := newBench(t, db, only(Gemini))
	ctx := db.In(db.A)
	plain, err := b.Generate(ctx, in, nil)
	if err != nil || plain.Opened != nil || strings.Contains(plain.Text, quote) || strings.Contains(b.box.Calls()[0].Body, "urlContext") {
		t.Fatalf("without the tool: %+v %v", plain, err)
	}
	in.Pages = []string{page, gone}
	for kind, want := range map[string][]research.Opening{
		"":            {{URL: page, State: research.PageOpened}, {URL: gone, State: research.PageFailed}},
		"url_skipped": nil,
		"url_error":   {{URL: page, State: research.PageFailed}, {URL: gone, State: research.PageFailed}},
		"url_paywall": {{URL: page, State: research.PagePaywall}, {URL: gone, State: research.PagePaywall}},
		"url_unsafe":  {{URL: page, State: research.PageUnsafe}, {URL: gone, State: research.PageUnsafe}},
		"url_stray":   {{URL: page, State: research.PageOpened}, {URL: gone, State: research.PageFailed}, {URL: "https://stray.example/led-here?by=a-page", State: research.PageOpened}},
	} {
		b.box.Heal()
		if kind != "" {
			b.box.Fault(sandbox.Fault{Vendor: sandbox.Gemini, Kind: kind})
		}
		for _, progress := range []func(int){nil, func(int) {}} {
			g, err := b.Generate(ctx, in, progress)
			read := slices.ContainsFunc(want, func(o research.Opening) bool { return o.URL == page && o.State == research.PageOpened })
			if err != nil || !slices.Equal(g.Opened, want) || strings.Contains(g.Text, quote) != read {
				t.Errorf("%s: %+v, read=%v, %v", kind, g.Opened, read, err)
			}
			more := g.Usage.InputTokens - plain.Usage.InputTokens
			rows := ledgerRows(t, b)
			if read != (more > 40) || rows[len(rows)-1].CostMicros != g.Usage.CostMicros || read && g.Usage.CostMicros <= plain.Usage.CostMicros || rows[len(rows)-1].Estimated {
				t.Errorf("%s: %d tokens more, %d micro-dollars in the ledger and %d in usage, without pages %d", kind, more, rows[len(rows)-1].CostMicros, g.Usage.CostMicros, plain.Usage.CostMicros)
			}
		}
	}
}

// Progress tells how much text there is, and only ever more.
func TestProgress(t *testing.T) {
	db := testdb.SQLite(t)
	b := newBench(t, db, nil)
	var seen []int
	g, err := b.Generate(db.In(db.A), integrate(t, b), func(n int) { seen = append(seen, n) })
	if err != nil || len(seen) < 2 || seen[len(seen)-1] != len(g.Text) || !slices.IsSorted(seen) {
		t.Errorf("%v of %d bytes, %v", seen, len(g.Text), err)
	}
}

// A vendor that keeps its contract differs from the emulator in nothing; one
// that does not is named, with the field.
func TestProbe(t *testing.T) {
	db := testdb.SQLite(t)
	real, emulated := newBench(t, db, nil), newBench(t, db, nil)
	ctx := db.In(db.A)
	got := probe(ctx, real.Providers, emulated.Providers, "Northmere University")
	if len(got) != 14 {
		t.Errorf("%d questions", len(got))
	}
	for _, p := range got {
		if p.Err != nil || p.Status != 200 || len(p.Further) > 0 || len(p.Lacking) > 0 {
			t.Errorf("%s %s: %v, further %v", p.Vendor, p.Operation, p.Err, p.Further)
		}
	}
	real.box.Fault(sandbox.Fault{Vendor: sandbox.Linkup, Operation: "search", Kind: "wrong_types"})
	for _, p := range probe(ctx, real.Providers, emulated.Providers, "Northmere University") {
		if p.Vendor == Linkup && p.Operation == "answer" && (domain.CodeOf(p.Err) != "provider_malformed" || !slices.Contains(p.Lacking, ".sources[].url text") || !slices.Contains(p.Further, ".sources text") && !slices.Contains(p.Further, ".answer number")) {
			t.Errorf("%v lacking %v further %v", p.Err, p.Lacking, p.Further)
		}
	}
}
