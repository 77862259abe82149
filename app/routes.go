package main

import (
	"context"
	"encoding/json"

	"github.com/chainreactions/chainreactions/app/api"
	"github.com/chainreactions/chainreactions/domain/dataset"
	"github.com/chainreactions/chainreactions/domain/research"
)

// routes is the whole HTTP surface: what may be called, by whom, and what it
// costs. `chainreactions routes` prints it, and its golden file makes every
// change of it a one-line diff.
func (p *program) routes() []api.Row {
	const (
		none      = api.None
		v1        = "/api/v1"
		main      = "main"
		data      = "main"
		match     = "dataset-matching"
		relations = "entity-relations"
		search    = "dataset-search"
		gate      = "gateway"
	)
	batch := func(in any) int64 { return int64(len(in.(dataset.BatchRequest).Queries)) }
	rows := []api.Row{
		// The process.
		{Method: "GET", Path: "/livez", Call: api.JSON("app.Live", p.live), Credential: api.Public, Permission: none, Feature: none, Class: "probe", Meter: none, Audit: none, Role: gate, Summary: "Is the process alive?"},
		{Method: "GET", Path: "/readyz", Call: api.JSON("app.Ready", p.ready), Credential: api.Public, Permission: none, Feature: none, Class: "probe", Meter: none, Audit: none, Role: gate, Summary: "May traffic be sent here?"},
		{Method: "GET", Path: "/api/health", Call: api.JSON("app.Health", p.health), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: gate, Summary: "The process and its dependencies"},
		{Method: "GET", Path: "/metrics", Call: api.Metrics(p.registry), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: gate, Summary: "Metrics for Prometheus"},
		{Method: "GET", Path: "/openapi.json", Call: api.Text("api.Document", "application/json", func() (int, []byte) { return 200, p.api.Document() }), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: gate, Summary: "This document"},
		{Method: "GET", Path: "/docs", Call: api.Docs(func() *api.API { return p.api }), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: gate, Summary: "The API on a page"},
		{Method: "GET", Path: "/.well-known/jwks.json", Call: api.Call("auth.JWKS", p.auth.JWKS), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: gate, Summary: "The keys that verify access tokens"},

		// People.
		{Method: "POST", Path: v1 + "/auth/signup", Call: api.SignsIn(api.Call("auth.Signup", p.auth.Signup)), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "user.signup", Switch: "signup", Role: main, Summary: "Open an account and its tenant", Status: 201, Also: []int{202}},
		{Method: "POST", Path: v1 + "/auth/login", Call: api.SignsIn(api.Call("auth.Login", p.auth.Login)), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: "session.start", Role: main, Summary: "Sign in"},
		{Method: "POST", Path: v1 + "/auth/refresh", Call: api.SignsIn(api.Call("auth.Refresh", p.auth.Refresh)), Credential: api.Public, Permission: none, Feature: none, Class: "auth", Meter: none, Audit: none, Role: main, Summary: "Change a refresh token for a new pair"},
		{Method: "POST", Path: v1 + "/auth/logout", Call: api.SignsOut(api.Act("auth.Logout", p.auth.Logout)), Credential: api.Session, Bound: true, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "session.revoke", Role: main, Summary: "End this session", Status: 204},
		{Method: "GET", Path: v1 + "/auth/sessions", Call: api.Call("auth.Sessions", p.auth.Sessions), Credential: api.Session, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Your sessions"},
		{Method: "DELETE", Path: v1 + "/auth/sessions/{id}", Call: api.Act("auth.RevokeSession", p.auth.RevokeSession), Credential: api.Session, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "session.revoke", Role: main, Summary: "End one of your sessions", Status: 204},
		{Method: "POST", Path: v1 + "/auth/switch", Call: api.SignsIn(api.Call("auth.Switch", p.auth.Switch)), Credential: api.Session, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "session.start", Role: main, Summary: "Tokens for another of your tenants"},
		{Method: "GET", Path: v1 + "/me", Call: api.Call("auth.Me", p.auth.Me), Credential: api.Member, Bound: true, Entry: true, Permission: none, Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Who you are here"},
		{Method: "PATCH", Path: v1 + "/me", Call: api.Call("auth.UpdateMe", p.auth.UpdateMe), Credential: api.Session, Permission: none, Feature: none, Class: "light", Meter: none, Audit: "user.update", Role: main, Summary: "Change your name or language"},

		// The tenant.
		{Method: "GET", Path: v1 + "/tenant", Call: api.Call("tenants.Show", p.tenants.Show), Credential: api.Member, Permission: "tenant:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Your tenant"},
		{Method: "GET", Path: v1 + "/api-keys", Call: api.Call("auth.Keys", p.auth.Keys), Credential: api.Member, Permission: "api_key:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "API keys"},
		{Method: "POST", Path: v1 + "/api-keys", Call: api.Call("auth.CreateKey", p.auth.CreateKey), Credential: api.Session, Fresh: true, Permission: "api_key:write", Feature: none, Class: "light", Meter: none, Audit: "api_key.create", Role: main, Summary: "Make an API key; it is shown once", Status: 201},
		{Method: "GET", Path: v1 + "/api-keys/{id}", Call: api.Call("auth.Key", p.auth.Key), Credential: api.Member, Permission: "api_key:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "One API key"},
		{Method: "PATCH", Path: v1 + "/api-keys/{id}", Call: api.Call("auth.UpdateKey", p.auth.UpdateKey), Credential: api.Session, Permission: "api_key:write", Feature: none, Class: "light", Meter: none, Audit: "api_key.update", Role: main, Summary: "Change an API key"},
		{Method: "DELETE", Path: v1 + "/api-keys/{id}", Call: api.Act("auth.RevokeKey", p.auth.RevokeKey), Credential: api.Session, Permission: "api_key:write", Feature: none, Class: "light", Meter: none, Audit: "api_key.revoke", Role: main, Summary: "Revoke an API key", Status: 204},
		{Method: "POST", Path: v1 + "/api-keys/{id}/rotate", Call: api.Call("auth.RotateKey", p.auth.RotateKey), Credential: api.Session, Fresh: true, Permission: "api_key:write", Feature: none, Class: "light", Meter: none, Audit: "api_key.rotate", Role: main, Summary: "A successor; the old key ends after the grace", Status: 201},
		{Method: "GET", Path: v1 + "/audit-events", Call: api.Call("audit.List", p.audit.List), Credential: api.Member, Permission: "audit:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "Who did what, newest first"},
		{Method: "GET", Path: v1 + "/audit-events/export", Call: api.Download("audit.Export", "application/octet-stream", "audit-events", p.audit.Export), Credential: api.Member, Fresh: true, Permission: "audit:read", Feature: none, Class: "data", Meter: none, Audit: "audit.export", Role: main, Summary: "The record as CSV or JSON Lines"},
		{Method: "GET", Path: v1 + "/audit-events/verify", Call: api.Call("audit.Verify", p.audit.Verify), Credential: api.Member, Permission: "audit:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: main, Summary: "Is the record whole?"},

		// For visitors.
		{Method: "POST", Path: v1 + "/demo/matches", Call: api.Call("dataset.MatchDemo", p.datasets.MatchDemo), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: match, Summary: "Try a name on the sample list"},

		// Plans and usage.
		{Method: "GET", Path: v1 + "/plans", Call: api.Call("billing.Plans", p.billing.Plans), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: main, Summary: "What can be had"},
		{Method: "GET", Path: v1 + "/usage", Call: api.Call("billing.Usage", p.meter.Usage), Credential: api.Member, Permission: "usage:read", Feature: none, Class: "light", Meter: none, Audit: none, Role: main, Summary: "What was used, and what is left"},
		{Method: "GET", Path: v1 + "/usage/analytics", Call: api.Call("billing.Analyse", p.meter.Analyse), Credential: api.Member, Permission: "usage:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: main, Summary: "Who used what, and where it leads by the end of the period"},
		{Method: "GET", Path: v1 + "/usage/export", Call: api.Download("billing.UsageExport", "text/csv; charset=utf-8", "usage.csv", p.meter.UsageExport), Credential: api.Member, Permission: "usage:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: main, Summary: "What was used, by hour, day or month, as CSV"},

		// Data management.
		{Method: "GET", Path: v1 + "/datasets", Call: api.Call("dataset.List", p.datasets.List), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "Datasets"},
		{Method: "POST", Path: v1 + "/datasets", Call: api.Call("dataset.Create", p.datasets.Create), Credential: api.Member, Permission: "dataset:write", Feature: none, Class: "data", Meter: none, Audit: "dataset.create", Role: data, Summary: "Make a dataset", Status: 201},
		{Method: "GET", Path: v1 + "/datasets/{id}", Call: api.Call("dataset.Get", p.datasets.Get), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "One dataset"},
		{Method: "PATCH", Path: v1 + "/datasets/{id}", Call: api.Call("dataset.Update", p.datasets.Update), Credential: api.Member, Permission: "dataset:write", Feature: none, Class: "data", Meter: none, Audit: "dataset.update", Role: data, Summary: "Change a dataset"},
		{Method: "DELETE", Path: v1 + "/datasets/{id}", Call: api.Act("dataset.Delete", quiet(p.datasets.Delete)), Credential: api.Member, Permission: "dataset:delete", Feature: none, Class: "data", Meter: none, Audit: "dataset.delete", Role: data, Summary: "Delete a dataset and its entries", Status: 204},
		{Method: "POST", Path: v1 + "/datasets/{id}/imports", Call: api.TakeFile("dataset.StartImport", api.Sheets, p.startImport), Credential: api.Member, Permission: "dataset:write", Feature: none, Class: "data", Meter: none, Audit: "import.start", Switch: "imports", Role: data, Summary: "Import a file: multipart, or the body itself", Status: 202},
		{Method: "POST", Path: v1 + "/imports/preview", Call: api.TakeFile("dataset.Preview", api.Sheets, p.preview), Credential: api.Member, Permission: "dataset:write", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "How a file would be read; nothing is kept"},
		{Method: "GET", Path: v1 + "/datasets/{id}/imports", Call: api.Call("dataset.ListImports", p.datasets.ListImports), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "Imports of a dataset"},
		{Method: "GET", Path: v1 + "/imports/{id}", Call: api.Call("dataset.GetImport", p.datasets.GetImport), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "The state of an import"},
		{Method: "GET", Path: v1 + "/imports/{id}/events", Call: api.Stream("dataset.WatchImport", p.importThere, p.watchImport, api.Sends[dataset.Import]("progress", "succeeded", "failed", "cancelled")...), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "Progress as server-sent events"},
		{Method: "GET", Path: v1 + "/imports/{id}/errors", Call: api.Download("dataset.ImportErrors", "text/csv; charset=utf-8", "import-errors.csv", p.datasets.ImportErrors), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "What was wrong, row by row"},
		{Method: "DELETE", Path: v1 + "/imports/{id}", Call: api.Call("dataset.CancelImport", p.datasets.CancelImport), Credential: api.Member, Permission: "dataset:write", Feature: none, Class: "data", Meter: none, Audit: "import.cancel", Role: data, Summary: "Cancel an import"},
		{Method: "GET", Path: v1 + "/datasets/{id}/entries", Call: api.Call("dataset.Entries", p.datasets.Entries), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "Entries, searched and paged"},
		{Method: "GET", Path: v1 + "/entries/{id}", Call: api.Call("dataset.Entry", p.datasets.Entry), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "One entry"},
		{Method: "GET", Path: v1 + "/datasets/{id}/stats", Call: api.Call("dataset.Stats", p.datasets.Stats), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "Counts by country and type"},
		{Method: "GET", Path: v1 + "/datasets/{id}/export", Call: api.DownloadAs("dataset.Export", func(in dataset.ExportRequest) (string, string) { return fileKind("dataset", in.Format) }, p.datasets.Export), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "The whole list as CSV, JSON Lines or FollowTheMoney"},
		{Method: "GET", Path: v1 + "/catalog", Call: api.Call("dataset.Catalog", p.datasets.Catalog), Credential: api.Member, Permission: "dataset:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: data, Summary: "Published lists that may be added"},
		{Method: "POST", Path: v1 + "/catalog/{slug}/subscribe", Call: api.Call("dataset.Subscribe", p.datasets.Subscribe), Credential: api.Member, Permission: "dataset:write", Feature: none, Class: "data", Meter: none, Audit: "catalog.subscribe", Role: data, Summary: "Add a published list as a dataset that follows it", Status: 202},

		// Matching.
		{Method: "POST", Path: v1 + "/matches", Call: api.Call("dataset.Match", p.datasets.Match), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "match", Meter: "match", Audit: none, Switch: "matching", Role: match, Summary: "Which listed entities may a name mean?"},
		{Method: "POST", Path: v1 + "/matches/batch", Call: api.Call("dataset.MatchBatch", p.datasets.MatchBatch), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "match", Meter: "match", Units: batch, Audit: none, Switch: "matching", Role: match, Summary: "Up to 100 names; each answers as it would alone"},
		{Method: "POST", Path: v1 + "/matches/affiliated", Call: api.Call("dataset.MatchAffiliated", p.datasets.MatchAffiliated), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "match", Meter: "match",
			Units: func(in any) int64 { return 1 + int64(len(in.(dataset.AffiliatedRequest).Query.AffiliatedEntities)) }, Audit: none, Switch: "matching", Role: match, Summary: "A name and its affiliated entities"},
		{Method: "POST", Path: v1 + "/matches/affiliated/batch", Call: api.Call("dataset.MatchAffiliatedBatch", p.datasets.MatchAffiliatedBatch), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "match", Meter: "match",
			Units: affiliatedUnits, Audit: none, Switch: "matching", Role: match, Summary: "Up to 100 names with their affiliated entities"},
		{Method: "POST", Path: v1 + "/match-jobs", Call: api.TakeFileOrJSON("dataset.StartMatchJob", api.Sheets, p.startMatchJob), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: "match_job.start", Switch: "matching", Role: match, Summary: "Match a whole file or dataset; each row is metered as a match", Status: 202},
		{Method: "GET", Path: v1 + "/match-jobs", Call: api.Call("dataset.ListMatchJobs", p.datasets.ListMatchJobs), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "Match jobs, newest first"},
		{Method: "GET", Path: v1 + "/match-jobs/{id}", Call: api.Call("dataset.GetMatchJob", p.datasets.GetMatchJob), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "The state of a match job"},
		{Method: "GET", Path: v1 + "/match-jobs/{id}/events", Call: api.Stream("dataset.WatchMatchJob", p.matchJobThere, p.watchMatchJob, api.Sends[dataset.MatchJob]("progress", "succeeded", "failed", "cancelled")...), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "Progress as server-sent events"},
		{Method: "GET", Path: v1 + "/match-jobs/{id}/result", Call: api.DownloadAs("dataset.MatchJobResult", func(in dataset.ResultRequest) (string, string) { return fileKind("matches", in.Format) }, p.datasets.MatchJobResult), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "The answers so far, as CSV or JSON Lines"},
		{Method: "POST", Path: v1 + "/match-jobs/{id}/cancel", Call: api.Call("dataset.CancelMatchJob", p.datasets.CancelMatchJob), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: "match_job.cancel", Role: match, Summary: "Stop a match job; what was done stays"},
		{Method: "POST", Path: v1 + "/match-jobs/{id}/resume", Call: api.Call("dataset.ResumeMatchJob", p.datasets.ResumeMatchJob), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: "match_job.resume", Switch: "matching", Role: match, Summary: "Go on with one that failed or was cancelled", Status: 202},
		{Method: "DELETE", Path: v1 + "/match-jobs/{id}", Call: api.Act("dataset.DeleteMatchJob", quiet(p.datasets.DeleteMatchJob)), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: "match_job.delete", Role: match, Summary: "Cancel a match job and delete its answers", Status: 204},
		{Method: "PUT", Path: v1 + "/decisions", Call: api.Call("dataset.Decide", p.datasets.Decide), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "light", Meter: none, Audit: "decision.put", Role: match, Summary: "Same, different or unsure: decide about a name and a listed entity"},
		{Method: "GET", Path: v1 + "/decisions", Call: api.Call("dataset.Decisions", p.datasets.Decisions), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "Decisions, newest first"},
		{Method: "POST", Path: v1 + "/decisions/lookup", Call: api.Call("dataset.Decided", p.datasets.Decided), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "light", Meter: none, Audit: none, Role: match, Summary: "What was decided about up to 100 names"},
		{Method: "GET", Path: v1 + "/decisions/export", Call: api.Download("dataset.ExportDecisions", "text/csv; charset=utf-8", "decisions.csv", p.datasets.ExportDecisions), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "The decisions as CSV"},
		{Method: "DELETE", Path: v1 + "/decisions/{id}", Call: api.Act("dataset.TakeBack", quiet(p.datasets.TakeBack)), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "light", Meter: none, Audit: "decision.delete", Role: match, Summary: "Take a decision back", Status: 204},
		{Method: "GET", Path: v1 + "/matching/settings", Call: api.Call("dataset.GetSettings", p.datasets.GetSettings), Credential: api.Member, Permission: "matching:read", Feature: "matching", Class: "light", Meter: none, Audit: none, Role: match, Summary: "Weights, threshold and synonyms"},
		{Method: "PUT", Path: v1 + "/matching/settings", Call: api.Call("dataset.PutSettings", p.datasets.PutSettings), Credential: api.Member, Permission: "matching:write", Feature: "matching", Class: "light", Meter: none, Audit: "matching.settings", Role: match, Summary: "Change them; they hold from the next query on"},
		{Method: "POST", Path: v1 + "/matching/cache/warm", Call: api.Call("dataset.Warm", p.datasets.Warm), Credential: api.Member, Permission: "match:run", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "Load indexes before they are asked for"},
		{Method: "DELETE", Path: v1 + "/matching/cache", Call: api.Act("dataset.ClearCache", quiet(p.datasets.ClearCache)), Credential: api.Member, Permission: "matching:write", Feature: "matching", Class: "data", Meter: none, Audit: none, Role: match, Summary: "Forget kept answers", Status: 204},
		{Method: "GET", Path: v1 + "/matching/stats", Call: api.Call("dataset.CacheStats", p.datasets.CacheStats), Credential: api.Member, Permission: "matching:read", Feature: "matching", Class: "light", Meter: none, Audit: none, Role: match, Summary: "Hits, misses and memory"},

		// Research. What a run uses of its meter is booked with the run, in one
		// transaction, and what it did not use is given back when it ends.
		{Method: "POST", Path: v1 + "/entity-relations", Call: api.Call("research.StartRelations", p.research.StartRelations), Credential: api.Member, Permission: "research:run", Feature: "research", Class: "research", Meter: none, Audit: "run.start", Switch: "research.entity_relations", Role: relations, Summary: "How is an institution tied to organisations of concern? Uses relations_normal or relations_deep", Status: 202},
		{Method: "POST", Path: v1 + "/entity-searches", Call: api.Call("research.StartEntity", p.research.StartEntity), Credential: api.Member, Permission: "research:run", Feature: "research", Class: "research", Meter: none, Audit: "run.start", Switch: "research.entity_search", Role: main, Summary: "A sourced profile and risk signals. Uses entity_search", Status: 202},
		{Method: "POST", Path: v1 + "/dataset-searches", Call: api.Call("research.StartDataset", p.research.StartDataset), Credential: api.Member, Permission: "research:run", Feature: "research", Class: "research", Meter: none, Audit: "run.start", Switch: "research.dataset_search", Role: search, Summary: "Every organisation of a dataset against one institution. Uses dataset_search, one for each", Status: 202},
		{Method: "GET", Path: v1 + "/runs", Call: api.Call("research.Runs", p.research.Runs), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: relations, Summary: "Runs, newest first"},
		{Method: "GET", Path: v1 + "/runs/{id}", Call: api.Call("research.Get", p.research.Get), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: relations, Summary: "A run and its result"},
		{Method: "DELETE", Path: v1 + "/runs/{id}", Call: api.Call("research.Cancel", p.research.Cancel), Credential: api.Member, Permission: "research:run", Feature: none, Class: "data", Meter: none, Audit: "run.cancel", Role: relations, Summary: "Cancel a run; nothing more is spent"},
		{Method: "POST", Path: v1 + "/runs/{id}/resume", Call: api.Call("research.Resume", p.research.Resume), Credential: api.Member, Permission: "research:run", Feature: "research", Class: "research", Meter: none, Audit: "run.resume", Switch: "research", Role: relations, Summary: "Go on after a fault; what was paid is not paid again", Status: 202},
		{Method: "POST", Path: v1 + "/runs/{id}/repeat", Call: api.Call("research.Repeat", p.research.Repeat), Credential: api.Member, Permission: "research:run", Feature: "research", Class: "research", Meter: none, Audit: "run.start", Switch: "research", Role: relations, Summary: "Ask the same again; the new run says what changed", Status: 202},
		{Method: "GET", Path: v1 + "/runs/{id}/events", Call: api.Stream("research.Watch", p.research.EventsReady, p.watchRun, runEvents...), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: relations, Summary: "The run's story as server-sent events"},
		{Method: "GET", Path: v1 + "/runs/{id}/findings", Call: api.Call("research.Findings", p.research.Findings), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: search, Summary: "What a dataset search has found until now"},
		{Method: "GET", Path: v1 + "/runs/{id}/changes", Call: api.Call("research.Changes", p.research.Changes), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: relations, Summary: "What differs from an earlier run"},
		{Method: "GET", Path: v1 + "/runs/{id}/graph", Call: api.Call("research.Graph", p.research.GraphOf), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: relations, Summary: "Entities and relations as a graph"},
		{Method: "GET", Path: v1 + "/runs/{id}/export", Call: api.DownloadAs("research.Export", func(in research.ExportRequest) (string, string) { return runFile(in.Format) }, p.research.Export), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: relations, Summary: "The result as JSON, CSV, GraphML, FollowTheMoney, STIX 2.1 or a PDF report"},
		{Method: "GET", Path: v1 + "/runs/{id}/sources/{source}", Call: api.Call("research.Snapshot", p.research.Snapshot), Credential: api.Member, Permission: "research:read", Feature: none, Class: "data", Meter: none, Audit: none, Role: relations, Summary: "A source and the text that was retrieved"},

		// Visitors.
		{Method: "POST", Path: v1 + "/demo-requests", Call: api.Call("mail.RequestDemo", p.mail.RequestDemo), Credential: api.Public, Permission: none, Feature: none, Class: "mail", Meter: none, Audit: none, Switch: "demo_requests", Role: main, Summary: "Ask for a demonstration", Status: 202},
	}
	rows = append(rows, p.peopleRoutes()...)
	rows = append(rows, p.accountRoutes()...)
	rows = append(rows, p.identityRoutes()...)
	rows = append(rows, p.salesRoutes()...)
	rows = append(rows, p.adminRoutes()...)
	rows = append(rows, p.officeRoutes()...)
	rows = append(rows, p.monitorRoutes()...)
	if p.config.Environment == "development" && p.config.SMTP.Host == "" {
		rows = append(rows,
			api.Row{Method: "GET", Path: "/sandbox/mail", Call: api.View("mail.ShowOutbox", p.mail.ShowOutbox), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: main, Summary: "The mails that were not sent (development only)"},
			api.Row{Method: "GET", Path: "/sandbox/mail/{id}", Call: api.View("mail.ShowKept", p.mail.ShowKept), Credential: api.Public, Permission: none, Feature: none, Class: "open", Meter: none, Audit: none, Role: main, Summary: "One of them (development only)"})
	}
	return rows
}

// affiliatedUnits counts every name of a batch, without trusting its shape:
// what cannot be read counts as one and fails alone.
func affiliatedUnits(in any) int64 {
	n := int64(0)
	for _, raw := range in.(dataset.AffiliatedBatchRequest).Queries {
		var q struct {
			Affiliated []json.RawMessage `json:"affiliated_entities"`
		}
		_ = json.Unmarshal(raw, &q)
		n += 1 + int64(len(q.Affiliated))
	}
	return n
}

// quiet makes a method that answers an empty struct one that answers nothing.
func quiet[In any](fn func(context.Context, In) (struct{}, error)) func(context.Context, In) error {
	return func(ctx context.Context, in In) error { _, err := fn(ctx, in); return err }
}

func (p *program) startImport(ctx context.Context, in dataset.ImportRequest, up api.Upload) (dataset.Import, error) {
	in.Filename, in.MediaType, in.Body = up.Filename, up.MediaType, up.Body
	return p.datasets.StartImport(ctx, in)
}

func (p *program) preview(ctx context.Context, in dataset.File, up api.Upload) (dataset.PreviewResponse, error) {
	in.Filename, in.MediaType, in.Body = up.Filename, up.MediaType, up.Body
	return p.datasets.Preview(ctx, in)
}

func (p *program) importThere(ctx context.Context, in dataset.WatchRequest) (dataset.Import, error) {
	return p.datasets.GetImport(ctx, dataset.IDRequest{ID: in.ID})
}

func (p *program) watchImport(ctx context.Context, in dataset.WatchRequest, send api.Sink) error {
	return p.datasets.WatchImport(ctx, in, func(e dataset.Event) error { return send(e.ID, e.Name, e.Data) })
}

func (p *program) startMatchJob(ctx context.Context, in dataset.MatchJobRequest, up api.Upload) (dataset.MatchJob, error) {
	in.Filename, in.MediaType, in.Body = up.Filename, up.MediaType, up.Body
	return p.datasets.StartMatchJob(ctx, in)
}

func (p *program) matchJobThere(ctx context.Context, in dataset.WatchRequest) (dataset.MatchJob, error) {
	return p.datasets.GetMatchJob(ctx, dataset.IDRequest{ID: in.ID})
}

func (p *program) watchMatchJob(ctx context.Context, in dataset.WatchRequest, send api.Sink) error {
	return p.datasets.WatchMatchJob(ctx, in, func(e dataset.Event) error { return send(e.ID, e.Name, e.Data) })
}

// fileKind gives the media type and the name of a download in a format.
func fileKind(name, format string) (media, filename string) {
	switch format {
	case "jsonl":
		return "application/jsonl", name + ".jsonl"
	case "ftm":
		return "application/jsonl", name + ".ftm.jsonl"
	}
	return "text/csv; charset=utf-8", name + ".csv"
}
