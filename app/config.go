package main

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	netmail "net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/chainreactions/chainreactions/app/faults"
	"github.com/chainreactions/chainreactions/app/jobs"
	"github.com/chainreactions/chainreactions/app/mail"
	"github.com/chainreactions/chainreactions/app/monitor"
	"github.com/chainreactions/chainreactions/app/provider"
	"github.com/chainreactions/chainreactions/app/tracing"
	"github.com/chainreactions/chainreactions/domain/dataset"
)

// Config is everything that a process is told. Every value comes from the
// environment, else from the file that CONFIG_FILE names (YAML, the same names
// in lower case), else from the default here, which runs on a laptop with
// nothing else installed. A secret may also be in a file of its own, named by
// NAME_FILE.
type Config struct {
	HTTPAddr     string
	Roles        []string // empty is all
	Advertise    string
	Peers        map[string][]string // host:port by role; nil is the registry
	DrainWait    time.Duration
	BaseURL      string
	BaseDomain   string
	DataDir      string
	CodeDir      string // of compiled code; "" has the reader of PDF files interpreted
	DatabaseURL  string
	ReplicaURL   string
	UsageMonths  int // how long the ledger's lines are kept there; 0 is for good
	RedisURL     string
	Proxies      []netip.Prefix
	LogLevel     slog.Level
	Environment  string
	SecretKey    []byte
	SMTP         mail.Server // zero: the outbox folder
	MailFrom     string
	ContactEmail string
	Verify       bool // addresses are proved before their accounts can be used

	Clients         map[string][2]string // id and secret, by the provider that signs people in
	MicrosoftTenant string

	EgressResolver     string
	EgressDialOverride string

	Accounts             map[string]provider.Account // of vendors, by name
	Limits               map[string]provider.Limits
	limitsSet            bool // by the operator
	StripeKey            string
	StripeWebhookSecrets []string
	StripeAPIBase        string
	TrialDays            int64
	Tax                  bool
	UsageRecords         bool

	BackupTo     string // "" is none
	AlertEmail   string // who is told of alerts; "" is nobody
	AlertWebhook string // where they are posted; "" is nowhere
	AlertSecret  []byte // they are signed with; none is not
	AlertLimits  monitor.Limits

	Traces    tracing.Config // where spans go
	SentryDSN string         // where faults of ours are told; "" is in the log alone

	QueueLimits     jobs.Limits // of heavy work that waits
	HeavyCalls      int         // batches that one process works at a time; 0 is eight a core
	ResearchWorkers int         // runs that one process works at a time; they wait for vendors most of their life

	FeaturesOff []string         // of switches
	Matching    dataset.Defaults // of tenants that chose no settings

	Sandbox   bool   // emulators stand in for vendors without a key
	SandboxAt string // host:port of those that another process serves; "" starts our own

	level  *slog.LevelVar // of the log that was made of this configuration
	getenv func(string) string
	file   string           // CONFIG_FILE
	read   time.Time        // when that was written that was read
	faults *faults.Reporter // of the log that was made of this configuration
	shown  []string         // NAME=value, secrets redacted
}

// setting is one value: what it is called, and what is allowed.
type setting struct {
	name, fallback, allowed string
	secret                  bool
	set                     func(c *Config, value string) error
}

var errNotAllowed = errors.New("not allowed")

var settings = []setting{
	{"HTTP_ADDR", "", "host:port, or :port; empty is :3000, or the port of the first of several roles", false, func(c *Config, v string) error {
		if c.HTTPAddr = v; v == "" {
			return nil
		}
		_, _, err := net.SplitHostPort(v)
		return err
	}},
	{"ADVERTISE_ADDR", "", "host:port at which other processes reach this one; empty is the address that it listens on", false, func(c *Config, v string) error {
		if c.Advertise = v; v == "" {
			return nil
		}
		_, _, err := net.SplitHostPort(v)
		return err
	}},
	{"PEERS", "", "a comma list of role=host:port, used in place of the registry in Redis; every address of a name is a process", false, func(c *Config, v string) (err error) {
		c.Peers, err = parsePeers(v)
		return err
	}},
	{"DRAIN_WAIT", "0s", "a duration: how long a process that is told to stop still takes requests while it says that it is not ready", false, func(c *Config, v string) (err error) {
		c.DrainWait, err = time.ParseDuration(v)
		return err
	}},
	{"BASE_URL", "", "an http or https address without a path", false, func(c *Config, v string) error {
		c.BaseURL = strings.TrimSuffix(v, "/")
		return shownAddress(v)
	}},
	{"BASE_DOMAIN", "", "a domain name; tenants are its subdomains", false, func(c *Config, v string) error {
		if strings.ContainsAny(v, ":/ ") {
			return errNotAllowed
		}
		c.BaseDomain = v
		return nil
	}},
	{"DATA_DIR", "./data", "a folder that may be written", false, func(c *Config, v string) error {
		c.DataDir = v
		return os.MkdirAll(v, 0o700)
	}},
	{"DATABASE_URL", "", "postgres://…, or empty for SQLite under DATA_DIR", true, func(c *Config, v string) error {
		if v != "" && !strings.HasPrefix(v, "postgres://") && !strings.HasPrefix(v, "postgresql://") {
			return errNotAllowed
		}
		c.DatabaseURL = v
		return nil
	}},
	{"DATABASE_REPLICA_URL", "", "postgres://… of a replica that answers what may be some seconds old (figures, analytics, exports of the audit trail), or empty", true, func(c *Config, v string) error {
		if v != "" && (c.DatabaseURL == "" || !strings.HasPrefix(v, "postgres://") && !strings.HasPrefix(v, "postgresql://")) {
			return errNotAllowed
		}
		c.ReplicaURL = v
		return nil
	}},
	{"USAGE_KEEP_MONTHS", "0", "0 (for good) or a number from 25: months after which PostgreSQL drops the log of calls and of vendors' calls, whole months at a time; what was used in all stays", false, func(c *Config, v string) (err error) {
		c.UsageMonths, err = strconv.Atoi(v)
		if c.UsageMonths != 0 && c.UsageMonths < 25 {
			return errNotAllowed
		}
		return err
	}},
	{"REDIS_URL", "", "redis://… or rediss://…, of a Redis Cluster with ?cluster=true or more nodes as &addr=host:port, or empty for the embedded server", true, func(c *Config, v string) error {
		if v != "" && !strings.HasPrefix(v, "redis://") && !strings.HasPrefix(v, "rediss://") {
			return errNotAllowed
		}
		c.RedisURL = v
		return nil
	}},
	{"TRUSTED_PROXIES", "", "a comma list of addresses and networks (CIDR)", false, func(c *Config, v string) error {
		for _, part := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' }) {
			p, err := netip.ParsePrefix(part)
			if err != nil {
				addr, err := netip.ParseAddr(part)
				if err != nil {
					return errNotAllowed
				}
				p = netip.PrefixFrom(addr, addr.BitLen())
			}
			c.Proxies = append(c.Proxies, p)
		}
		return nil
	}},
	{"LOG_LEVEL", "info", "debug, info, warn or error", false, func(c *Config, v string) error {
		return c.LogLevel.UnmarshalText([]byte(v))
	}},
	{"ENVIRONMENT", "development", "development or production", false, func(c *Config, v string) error {
		c.Environment = v
		if !slices.Contains(environments, v) {
			return errNotAllowed
		}
		return nil
	}},
	{"SECRET_KEY", "", "at least 32 characters; made and kept under DATA_DIR in development, required in production", true, func(c *Config, v string) error {
		if v != "" && len(v) < 32 {
			return errNotAllowed
		}
		c.SecretKey = []byte(v)
		return nil
	}},
	{"SMTP_URL", "", "smtp://user:password@host:587 or smtps://…:465, with per_minute= and per_day= for a provider's limits; empty for the outbox folder", true, func(c *Config, v string) (err error) {
		if v != "" {
			c.SMTP, err = mail.ParseServer(v)
		}
		return err
	}},
	{"MAIL_FROM", "ChainReactions <no-reply@localhost>", "an address that mail comes from", false, func(c *Config, v string) error {
		c.MailFrom = v
		_, err := netmail.ParseAddress(v)
		return err
	}},
	{"CONTACT_EMAIL", "", "an address that gets demo requests; empty is MAIL_FROM", false, func(c *Config, v string) error {
		if v == "" {
			return nil
		}
		addr, err := netmail.ParseAddress(v)
		if err == nil {
			c.ContactEmail = addr.Address
		}
		return err
	}},
	{"EMAIL_VERIFICATION", "auto", "auto (on where SMTP_URL is set), on or off", false, func(c *Config, v string) error {
		c.Verify = v == "on" || v == "auto" && c.SMTP.Host != ""
		if v != "auto" && v != "on" && v != "off" {
			return errNotAllowed
		}
		return nil
	}},
	{"GOOGLE_CLIENT_ID", "", "the id of an OAuth client, or empty: then nobody signs in through Google", false, clientOf("google", 0)},
	{"GOOGLE_CLIENT_SECRET", "", "its secret", true, clientOf("google", 1)},
	{"MICROSOFT_CLIENT_ID", "", "the id of an app registration, or empty: then nobody signs in through Microsoft", false, clientOf("microsoft", 0)},
	{"MICROSOFT_CLIENT_SECRET", "", "its secret", true, clientOf("microsoft", 1)},
	{"MICROSOFT_TENANT", "common", "common, organizations or the id of one directory", false, func(c *Config, v string) error {
		c.MicrosoftTenant = v
		if v == "" || strings.ContainsAny(v, "/?#{} ") {
			return errNotAllowed
		}
		return nil
	}},
	{"GITHUB_CLIENT_ID", "", "the id of an OAuth app, or empty: then nobody signs in through GitHub", false, clientOf("github", 0)},
	{"GITHUB_CLIENT_SECRET", "", "its secret", true, clientOf("github", 1)},
	{"EGRESS_RESOLVER", "", "host:port of a DNS server for pages and webhooks; for tests, not in production", false, func(c *Config, v string) error {
		c.EgressResolver = v
		return testAddress(c, v)
	}},
	{"EGRESS_DIAL_OVERRIDE", "", "host:port that every permitted page and webhook is dialled to; for tests, not in production", false, func(c *Config, v string) error {
		c.EgressDialOverride = v
		return testAddress(c, v)
	}},
	{"GEMINI_API_KEY", "", "a key, or a comma list that is used in turn", true, keysOf(provider.Gemini)},
	{"GEMINI_BASE_URL", "", "an http or https address, or empty for Google's", false, addressOf(provider.Gemini)},
	{"GEMINI_MODEL", "gemini-3.8-flash", "a model's name; it is priced by it", false, modelOf(provider.Gemini)},
	{"OPENAI_API_KEY", "", "a key, or a comma list that is used in turn; a model of one's own needs none", true, keysOf(provider.OpenAI)},
	{"OPENAI_BASE_URL", "", "an http or https address that ends before /chat/completions (Ollama: http://localhost:11434/v1), or empty for OpenAI's", false, addressOf(provider.OpenAI)},
	{"OPENAI_MODEL", "", "a model's name", false, modelOf(provider.OpenAI)},
	{"BRIGHT_DATA_API_KEY", "", "a key, or a comma list that is used in turn", true, keysOf(provider.BrightData)},
	{"BRIGHT_DATA_SERP_ZONE", "", "the name of a zone of type serp", false, func(c *Config, v string) error {
		return c.account(provider.BrightData, func(a *provider.Account) { a.Zone = v })
	}},
	{"BRIGHT_DATA_BASE_URL", "", "an http or https address, or empty for Bright Data's", false, addressOf(provider.BrightData)},
	{"SEARXNG_URL", "", "the http or https address of a SearXNG whose search.formats has json", false, addressOf(provider.SearXNG)},
	{"LINKUP_API_KEY", "", "a key, or a comma list that is used in turn", true, keysOf(provider.Linkup)},
	{"LINKUP_BASE_URL", "", "an http or https address that ends before /search, or empty for Linkup's", false, addressOf(provider.Linkup)},
	{"PROVIDER_LIMITS", provider.DefaultLimits, "none, or a comma list of vendor.bound=number: bound is hour_calls, day_calls, hour_usd, day_usd, or one of them after tenant_ (linkup.day_calls=1000, gemini.tenant_day_usd=20); what is set replaces the default, which does not bind emulators", false, func(c *Config, v string) (err error) {
		c.limitsSet = v != provider.DefaultLimits
		if v == "none" {
			return nil
		}
		c.Limits, err = provider.ParseLimits(v)
		return err
	}},
	{"STRIPE_SECRET_KEY", "", "sk_… or rk_…, or empty: then the sandbox's Stripe in development, and nothing is sold in production", true, func(c *Config, v string) error {
		c.StripeKey = v
		if v != "" && !strings.HasPrefix(v, "sk_") && !strings.HasPrefix(v, "rk_") {
			return errNotAllowed
		}
		return nil
	}},
	{"STRIPE_WEBHOOK_SECRET", "", "whsec_…, or a comma list of two while the secret is rolled", true, func(c *Config, v string) error {
		c.StripeWebhookSecrets = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		return nil
	}},
	{"STRIPE_API_BASE", "", "an http or https address, or empty for Stripe's", false, func(c *Config, v string) error {
		c.StripeAPIBase = v
		return shownAddress(v)
	}},
	{"STRIPE_TRIAL_DAYS", "0", "days without payment at a tenant's first purchase, up to 90", false, func(c *Config, v string) (err error) {
		if c.TrialDays, err = strconv.ParseInt(v, 10, 64); err != nil || c.TrialDays < 0 || c.TrialDays > 90 {
			return errNotAllowed
		}
		return nil
	}},
	{"STRIPE_TAX", "off", "on or off: whether Stripe computes tax and asks for tax ids", false, func(c *Config, v string) error {
		c.Tax = v == "on"
		if v != "on" && v != "off" {
			return errNotAllowed
		}
		return nil
	}},
	{"STRIPE_USAGE", "meters", "meters or records: how new prices of overage count; accounts made since 2025 have meters alone", false, func(c *Config, v string) error {
		c.UsageRecords = v == "records"
		if v != "meters" && v != "records" {
			return errNotAllowed
		}
		return nil
	}},
	{"BACKUP_TO", "", "a file that the server keeps a sealed backup of the embedded database and the files in, or empty", false, func(c *Config, v string) error {
		if c.BackupTo = v; v != "" && c.DatabaseURL != "" {
			return errNotAllowed
		}
		return nil
	}},
	{"ALERT_EMAIL", "", "an address that is told of alerts, or empty", false, func(c *Config, v string) error {
		if v == "" {
			return nil
		}
		addr, err := netmail.ParseAddress(v)
		if err == nil {
			c.AlertEmail = addr.Address
		}
		return err
	}},
	{"ALERT_WEBHOOK", "", "an http or https address that alerts are posted to as JSON, or empty", true, func(c *Config, v string) error {
		u, err := url.Parse(v)
		if v != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return errNotAllowed
		}
		c.AlertWebhook = v
		return nil
	}},
	{"ALERT_WEBHOOK_SECRET", "", "whsec_ and base64, which alerts that are posted are signed with as Standard Webhooks has it; or empty: then they are not", true, func(c *Config, v string) (err error) {
		c.AlertSecret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(v, "whsec_"))
		if v != "" && (!strings.HasPrefix(v, "whsec_") || len(c.AlertSecret) < 24) {
			return errNotAllowed
		}
		return err
	}},
	{"ALERT_LIMITS", "", "a comma list of limit=number: error_rate, error_rate_down, disk_free, memory_used, provider_budget, queue_full (shares), response_time, cooldown, remind, jobs_wait, backup_age (seconds)", false, func(c *Config, v string) (err error) {
		c.AlertLimits, err = monitor.ParseLimits(v)
		return err
	}},
	{"OTEL_EXPORTER_OTLP_ENDPOINT", "", "an http or https address that traces are sent to by OTLP/HTTP, or empty: nothing is traced then", false, func(c *Config, v string) error {
		c.Traces.Endpoint = v
		return shownAddress(v)
	}},
	{"OTEL_EXPORTER_OTLP_HEADERS", "", "a comma list of name=value that is sent along", true, func(c *Config, v string) error {
		c.Traces.Headers = map[string]string{}
		for _, part := range strings.Split(v, ",") {
			name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
			if v != "" && !ok {
				return errNotAllowed
			}
			if ok {
				c.Traces.Headers[name] = value
			}
		}
		return nil
	}},
	{"OTEL_TRACES_SAMPLER_ARG", "1", "a share from 0 to 1: of the requests that are traced", false, func(c *Config, v string) (err error) {
		if c.Traces.Share, err = strconv.ParseFloat(v, 64); err == nil && !(c.Traces.Share >= 0 && c.Traces.Share <= 1) {
			err = errNotAllowed
		}
		return err
	}},
	{"SENTRY_DSN", "", "https://key@host/project of what takes Sentry's events: faults of ours are told there, with their stack and nobody's data; or empty", true, func(c *Config, v string) (err error) {
		if c.SentryDSN = v; v != "" {
			_, _, err = faults.Read(v)
		}
		return err
	}},
	{"QUEUE_LIMITS", jobs.DefaultLimits, "a comma list of tenant=number and all=number, that may wait of a kind of heavy work (imports, match jobs, runs, exports), and wait=duration: from where on no tenant may have more than one waiting; what is left out is as in the default", false, func(c *Config, v string) (err error) {
		c.QueueLimits, err = jobs.ParseLimits(v)
		return err
	}},
	{"HEAVY_CALLS", "0", "a number up to 10000: the batches that one process works at a time; downloads may be eight times as many; 0 is eight a core", false, func(c *Config, v string) (err error) {
		if c.HeavyCalls, err = strconv.Atoi(v); err != nil || c.HeavyCalls < 0 || c.HeavyCalls > 10000 {
			return errNotAllowed
		}
		return nil
	}},
	{"RESEARCH_WORKERS", "64", "a number from 1 to 5000: the runs that one process works at a time", false, func(c *Config, v string) (err error) {
		c.ResearchWorkers, err = strconv.Atoi(v)
		if c.ResearchWorkers < 1 || c.ResearchWorkers > 5000 {
			return errNotAllowed
		}
		return err
	}},
	{"FEATURES_OFF", "", "a comma list of what is switched off for now, which is answered 503 while all else goes on: " + strings.Join(switches, ", "), false, func(c *Config, v string) error {
		c.FeaturesOff = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		for _, name := range c.FeaturesOff {
			if !slices.Contains(switches, name) {
				return errNotAllowed
			}
		}
		return nil
	}},
	{"MATCHING_DEFAULTS", "", "a comma list of threshold, jaro_winkler, levenshtein, word, ngram and geographic=number from 0 to 1: the settings of tenants that chose none; what is left out is the product's own", false, func(c *Config, v string) (err error) {
		c.Matching, err = dataset.ParseDefaults(v)
		return err
	}},
	{"SANDBOX", "auto", "auto (in development, emulators stand in for vendors without a key), host:port (those that the command sandbox serves there do) or off", false, func(c *Config, v string) error {
		c.Sandbox = v != "off" && c.Environment != "production"
		if v == "auto" || v == "off" {
			return nil
		}
		c.SandboxAt = v
		_, _, err := net.SplitHostPort(v)
		return err
	}},
}

// account changes what is known of a vendor.
func (c *Config) account(vendor string, change func(a *provider.Account)) error {
	if c.Accounts == nil {
		c.Accounts = map[string]provider.Account{}
	}
	a := c.Accounts[vendor]
	change(&a)
	c.Accounts[vendor] = a
	return nil
}

func keysOf(vendor string) func(*Config, string) error {
	return func(c *Config, v string) error {
		keys := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		return c.account(vendor, func(a *provider.Account) { a.Keys = keys })
	}
}

func modelOf(vendor string) func(*Config, string) error {
	return func(c *Config, v string) error {
		return c.account(vendor, func(a *provider.Account) { a.Model = v })
	}
}

// shownAddress refuses what is no http or https address, and one with a password
// in it: these are shown.
func shownAddress(v string) error {
	u, err := url.Parse(v)
	if v != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil) {
		return errNotAllowed
	}
	return nil
}

func addressOf(vendor string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if err := shownAddress(v); err != nil {
			return err
		}
		return c.account(vendor, func(a *provider.Account) { a.BaseURL = v })
	}
}

// testAddress is a host:port that would let a test see what production must
// never show: ENVIRONMENT is read before it.
func testAddress(c *Config, v string) error {
	if v == "" {
		return nil
	}
	if c.Environment == "production" {
		return errNotAllowed
	}
	_, _, err := net.SplitHostPort(v)
	return err
}

// inAddress is who an address signs in as, and the password.
var inAddress = regexp.MustCompile(`://[^/]*@`)

// loadConfig reads the configuration. The error of a wrong value names it,
// shows it (unless it is a secret) and says what is allowed.
func loadConfig(getenv func(string) string) (Config, error) {
	c := Config{level: &slog.LevelVar{}, getenv: getenv, file: getenv("CONFIG_FILE")}
	file := map[string]string{}
	if path := c.file; path != "" {
		c.read = writtenAt(path)
		raw, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("CONFIG_FILE: %w", err)
		}
		if file, err = readConfig(raw, getenv("ENVIRONMENT")); err != nil {
			return c, fmt.Errorf("CONFIG_FILE %s: %w", path, err)
		}
	}
	for _, s := range settings {
		value, from := s.fallback, "default"
		if v, ok := file[strings.ToLower(s.name)]; ok {
			value, from = v, "file"
		}
		if path := getenv(s.name + "_FILE"); s.secret && path != "" {
			raw, err := os.ReadFile(path)
			if err != nil {
				return c, fmt.Errorf("%s_FILE: %w", s.name, err)
			}
			if value, from = strings.TrimSpace(string(raw)), "secret file"; value == "" {
				return c, fmt.Errorf("%s_FILE: %s is empty", s.name, path)
			}
		}
		if v := getenv(s.name); v != "" {
			value, from = v, "environment"
		}
		show := value
		if s.secret && value != "" {
			show = "[redacted]"
		}
		if err := s.set(&c, value); err != nil {
			return c, fmt.Errorf("%s=%q is not usable: allowed is %s", s.name, inAddress.ReplaceAllString(show, "://[redacted]@"), s.allowed)
		}
		c.shown = append(c.shown, fmt.Sprintf("%s=%s (%s)", s.name, show, from))
	}
	if c.Environment == "production" && c.SMTP.Plain {
		return c, errors.New("SMTP_URL=[redacted] is not usable: production does not send without TLS")
	}
	if c.SMTP.Host != "" && strings.HasSuffix(c.MailFrom, "@localhost>") {
		return c, fmt.Errorf("MAIL_FROM=%q is not usable: mail that leaves needs a sender that can be answered", c.MailFrom)
	}
	if len(c.SecretKey) == 0 {
		if c.Environment == "production" {
			return c, errors.New(`SECRET_KEY="" is not usable: production needs one of at least 32 characters`)
		}
		key, err := keptSecret(filepath.Join(c.DataDir, "secret.key"))
		if err != nil {
			return c, fmt.Errorf("make a SECRET_KEY: %w", err)
		}
		c.SecretKey = key
	}
	c.CodeDir = filepath.Join(c.DataDir, "code")
	c.level.Set(c.LogLevel)
	return c, nil
}

// environments are what ENVIRONMENT may be.
var environments = []string{"development", "production"}

var lineOf = regexp.MustCompile(`line \d+`)

// readConfig reads the text of a CONFIG_FILE: lines of name: value, and for each
// environment a section of such lines, which go over the others there. Nothing of
// a value is in its errors, for it may be a secret.
func readConfig(text []byte, environment string) (map[string]string, error) {
	var file map[string]yaml.Node
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("want lines of name: value %s", lineOf.FindString(err.Error()))
	}
	values, sections := map[string]string{}, map[string]map[string]string{}
	read := func(into map[string]string, name string, v yaml.Node) error {
		if v.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: %s has no plain value", v.Line, name)
		}
		if !slices.ContainsFunc(settings, func(s setting) bool { return strings.ToLower(s.name) == name }) {
			return fmt.Errorf("line %d: there is no setting %q", v.Line, name)
		}
		if v.Tag != "!!null" {
			into[name] = v.Value
		}
		return nil
	}
	for name, v := range file {
		if !slices.Contains(environments, name) {
			if err := read(values, name, v); err != nil {
				return nil, err
			}
			continue
		}
		var section map[string]yaml.Node
		if err := v.Decode(&section); err != nil {
			return nil, fmt.Errorf("line %d: %s is no section of lines of name: value", v.Line, name)
		}
		sections[name] = map[string]string{}
		for inner, v := range section {
			if inner == "environment" {
				return nil, fmt.Errorf("line %d: the environment decides which section is read", v.Line)
			}
			if err := read(sections[name], inner, v); err != nil {
				return nil, err
			}
		}
	}
	maps.Copy(values, sections[cmp.Or(environment, values["environment"], environments[0])])
	return values, nil
}

func writtenAt(path string) (at time.Time) {
	if info, err := os.Stat(path); err == nil {
		at = info.ModTime()
	}
	return at
}

// keptSecret makes a development key once and reads it ever after.
func keptSecret(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err == nil && len(raw) >= 32 {
		return raw, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var b [32]byte
	if _, err := io.ReadFull(rand.Reader, b[:]); err != nil {
		return nil, err
	}
	// Processes that start together make one: it is linked into its place whole, and
	// who comes second reads that of the first. Containers may share the folder and
	// their process numbers, so these name nothing.
	aside, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(aside.Name())
	_, err = aside.WriteString(hex.EncodeToString(b[:]))
	if err = errors.Join(err, aside.Sync(), aside.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(aside.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if raw, err = os.ReadFile(path); err == nil && len(raw) < 32 {
		err = fmt.Errorf("%s is no key: it has %d characters of at least 32", path, len(raw))
	}
	return raw, err
}
