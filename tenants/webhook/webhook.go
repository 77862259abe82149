// Package webhook tells a tenant's own servers what happens in the tenant. What
// is told is the tenant's audit trail: each event whose action an endpoint has
// subscribed to becomes a delivery, in the transaction of the event, and a job
// posts it, signed as Standard Webhooks 1.0 says (standardwebhooks.com):
//
//	webhook-id: aud_…          the same at every attempt: the receiver's idempotency key
//	webhook-timestamp: 17…     of the attempt
//	webhook-signature: v1,…    HMAC-SHA256 of id.timestamp.body; one for each secret while one is rotated
//
//	pending ──2xx──▶ delivered
//	   │ ▲
//	   │ └─ 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h after a failure
//	   └──▶ failed: no attempt is left; it can be replayed
//
// At least once, and not in order: seq says what came first. An endpoint that
// answers 410, or fails for five days, is disabled.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
	"github.com/chainreactions/chainreactions/domain/seal"
	"github.com/chainreactions/chainreactions/domain/store"
)

const (
	maxEndpoints   = 10
	attemptTimeout = 15 * time.Second
	disableAfter   = 5 * 24 * time.Hour
	rotationGrace  = 24 * time.Hour
)

// retryAfter is how long to wait after each failed attempt; after the last
// there is none.
var retryAfter = []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour}

// Config of the Hooks. Now may be nil.
type Config struct {
	Store     *store.Store
	Audit     *audit.Trail
	Queue     domain.Queue
	SecretKey []byte
	Client    *http.Client           // reaches only what may be reached
	Check     func(u *url.URL) error // refuses early what Client would refuse
	Plain     bool                   // http:// is allowed: not in production
	Now       func() time.Time
}

// Hooks keeps the endpoints and delivers to them.
type Hooks struct {
	Config
	box    seal.Box
	client *http.Client
}

// New makes Hooks.
func New(c Config) *Hooks {
	if c.Store == nil || c.Audit == nil || c.Queue == nil || c.Client == nil || c.Check == nil {
		panic("webhook: needs a store, an audit trail, a queue, a client and its check")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	client := *c.Client
	follow := client.CheckRedirect
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.Method != http.MethodPost || follow == nil { // 301 to 303 would drop the body and look delivered
			return http.ErrUseLastResponse
		}
		return follow(req, via)
	}
	return &Hooks{Config: c, box: seal.New(c.SecretKey, "webhook secrets"), client: &client}
}

// Endpoint is a server of the tenant's.
type Endpoint struct {
	store.Owned
	ID             string     `json:"id" gorm:"primaryKey"`
	URL            string     `json:"url"`
	Description    string     `json:"description"`
	Events         []string   `json:"events" gorm:"serializer:json" nullable:"false"`
	Sealed         string     `json:"-"`
	Status         string     `json:"status" enum:"active,disabled"`
	DisabledReason string     `json:"disabled_reason,omitempty"`
	FailingSince   *time.Time `json:"failing_since" nullable:"true"`
	CreatedBy      string     `json:"created_by"`
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
}

// TableName is GORM's.
func (Endpoint) TableName() string { return "webhook_endpoints" }

// EndpointWithSecret shows the signing secret, this once.
type EndpointWithSecret struct {
	Endpoint
	Secret string `json:"secret" doc:"whsec_…, shown once"`
}

// secret is one that signs, and until when.
type secret struct {
	Secret string
	Until  time.Time // zero: the present one
}

func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return "whsec_" + base64.StdEncoding.EncodeToString(b[:])
}

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	store.Owned
	ID         string          `json:"id" gorm:"primaryKey"`
	EndpointID string          `json:"endpoint_id"`
	MessageID  string          `json:"message_id" doc:"webhook-id, the same at every attempt and replay"`
	Type       string          `json:"type"`
	Body       string          `json:"-"`
	Payload    json.RawMessage `json:"payload" gorm:"-"`
	Status     string          `json:"status" enum:"pending,delivered,failed"`
	Attempts   []Attempt       `json:"attempts" gorm:"serializer:json" nullable:"false"`
	CreatedAt  time.Time       `json:"created_at"`
	NextAt     *time.Time      `json:"next_at" nullable:"true"`
	EndedAt    *time.Time      `json:"ended_at" nullable:"true"`
}

// TableName is GORM's.
func (Delivery) TableName() string { return "webhook_deliveries" }

// Attempt is one try.
type Attempt struct {
	At     time.Time `json:"at"`
	Status int       `json:"status,omitempty" doc:"the HTTP status of the answer"`
	TookMS int64     `json:"took_ms"`
	Error  string    `json:"error,omitempty" doc:"why there was no answer"`
}

// CreateRequest makes an endpoint.
type CreateRequest struct {
	URL         string   `json:"url" minLength:"8" maxLength:"2000"`
	Description string   `json:"description,omitempty" maxLength:"500"`
	Events      []string `json:"events" minItems:"1" maxItems:"50" doc:"actions of the audit trail: dataset.create, dataset.* or *"`
}

func (h *Hooks) acceptable(rawURL string, events []string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Fragment != "" || u.Scheme != "https" && !(h.Plain && u.Scheme == "http") {
		return domain.InvalidField("url", "invalid_url", "This must be an https address.")
	}
	if err := h.Check(u); err != nil {
		return domain.InvalidField("url", "address_not_allowed", "This address may not be reached from here.").Because(err)
	}
	for _, e := range events {
		name, wild := strings.CutSuffix(e, "*")
		if wild && (name == "" || strings.HasSuffix(name, ".")) || !wild && strings.Count(e, ".") >= 1 && !strings.ContainsAny(e, " *") {
			continue
		}
		return domain.InvalidField("events", "invalid_event", "An event is an action such as dataset.create, a group such as dataset.*, or *.")
	}
	return nil
}

// Create makes an endpoint and its secret.
func (h *Hooks) Create(ctx context.Context, in CreateRequest) (out EndpointWithSecret, err error) {
	if err := h.acceptable(in.URL, in.Events); err != nil {
		return out, err
	}
	scope, _ := domain.ScopeOf(ctx)
	now := h.Now().UTC()
	out.Secret = newSecret()
	out.Endpoint = Endpoint{ID: domain.NewID("whk"), URL: in.URL, Description: in.Description, Events: in.Events, Status: "active",
		CreatedBy: scope.Actor.ID, CreatedAt: now, UpdatedAt: now}
	if out.Sealed, err = h.keep(out.ID, []secret{{Secret: out.Secret}}); err != nil {
		return out, err
	}
	err = h.Store.Tx(ctx, func(ctx context.Context) error {
		var n int64
		if err := h.Store.For(ctx).Model(&Endpoint{}).Count(&n).Error; err != nil {
			return err
		}
		if n >= maxEndpoints {
			return domain.E(domain.Conflict, "too_many_endpoints", "A tenant has at most %d webhook endpoints.", maxEndpoints)
		}
		if err := h.Store.For(ctx).Create(&out.Endpoint).Error; err != nil {
			return err
		}
		return h.Audit.Record(ctx, audit.Entry{Action: "webhook.create", Target: out.ID, Detail: map[string]any{"events": in.Events}})
	})
	return out, err
}

func (h *Hooks) keep(id string, secrets []secret) (string, error) {
	raw, err := json.Marshal(secrets)
	return h.box.Seal(id, raw), err
}

func (h *Hooks) secrets(e Endpoint) (out []secret, err error) {
	raw, err := h.box.Open(e.ID, e.Sealed)
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(raw, &out)
}

// List gives the endpoints.
func (h *Hooks) List(ctx context.Context, in domain.PageRequest) (page domain.Page[Endpoint], err error) {
	err = h.Store.Read(ctx, func(ctx context.Context) error {
		page, err = store.Oldest(h.Store.For(ctx), in, func(e Endpoint) string { return e.ID })
		return err
	})
	return page, err
}

// Titles gives the addresses of endpoints, by id.
func (h *Hooks) Titles(ctx context.Context, ids []string) (map[string]string, error) {
	var found []Endpoint
	err := h.Store.Read(ctx, func(ctx context.Context) error {
		return h.Store.For(ctx).Select("tenant_id", "id", "url").Where("id IN ?", ids).Find(&found).Error
	})
	out := map[string]string{}
	for _, e := range found {
		out[e.ID] = e.URL
	}
	return out, err
}

// IDRequest names an endpoint or a delivery.
type IDRequest struct {
	ID string `path:"id"`
}

// Get is one endpoint.
func (h *Hooks) Get(ctx context.Context, in IDRequest) (e Endpoint, err error) {
	err = h.Store.Read(ctx, func(ctx context.Context) error { return h.Store.For(ctx).Where("id = ?", in.ID).Take(&e).Error })
	return e, err
}

// UpdateRequest changes an endpoint.
type UpdateRequest struct {
	ID          string    `path:"id"`
	URL         *string   `json:"url,omitempty" minLength:"8" maxLength:"2000"`
	Description *string   `json:"description,omitempty" maxLength:"500"`
	Events      *[]string `json:"events,omitempty" minItems:"1" maxItems:"50"`
	Status      *string   `json:"status,omitempty" enum:"active,disabled"`
}

// Update changes an endpoint; making it active again forgets its failures.
func (h *Hooks) Update(ctx context.Context, in UpdateRequest) (e Endpoint, err error) {
	err = h.Store.Tx(ctx, func(ctx context.Context) error {
		if err := h.lock(ctx, in.ID, &e); err != nil {
			return err
		}
		if in.URL != nil {
			e.URL = *in.URL
		}
		if in.Description != nil {
			e.Description = *in.Description
		}
		if in.Events != nil {
			e.Events = *in.Events
		}
		if in.Status != nil {
			e.Status, e.DisabledReason, e.FailingSince = *in.Status, "", nil
		}
		if err := h.acceptable(e.URL, e.Events); err != nil {
			return err
		}
		e.UpdatedAt = h.Now().UTC()
		return h.save(ctx, e, "webhook.update", map[string]any{"status": e.Status, "events": e.Events})
	})
	return e, err
}

func (h *Hooks) lock(ctx context.Context, id string, e *Endpoint) error {
	return h.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", id).Take(e).Error
}

func (h *Hooks) save(ctx context.Context, e Endpoint, action string, detail map[string]any) error {
	err := h.Store.For(ctx).Model(&Endpoint{}).Where("id = ?", e.ID).
		Select("url", "description", "events", "sealed", "status", "disabled_reason", "failing_since", "updated_at").Updates(&e).Error
	if err != nil || action == "" {
		return err
	}
	return h.Audit.Record(ctx, audit.Entry{Action: action, Target: e.ID, Detail: detail})
}

// Delete removes an endpoint and its deliveries.
func (h *Hooks) Delete(ctx context.Context, in IDRequest) error {
	return h.Store.Tx(ctx, func(ctx context.Context) error {
		gone := h.Store.For(ctx).Where("id = ?", in.ID).Delete(&Endpoint{})
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			return domain.ErrNotFound()
		}
		return h.Audit.Record(ctx, audit.Entry{Action: "webhook.delete", Target: in.ID})
	})
}

// Rotate makes a new secret. The old one signs too for a day, so that the
// receiver can change over without losing a message.
func (h *Hooks) Rotate(ctx context.Context, in IDRequest) (out EndpointWithSecret, err error) {
	err = h.Store.Tx(ctx, func(ctx context.Context) error {
		if err := h.lock(ctx, in.ID, &out.Endpoint); err != nil {
			return err
		}
		old, err := h.secrets(out.Endpoint)
		if err != nil {
			return err
		}
		now := h.Now().UTC()
		out.Secret, out.UpdatedAt = newSecret(), now
		if out.Sealed, err = h.keep(out.ID, []secret{{Secret: out.Secret}, {Secret: old[0].Secret, Until: now.Add(rotationGrace)}}); err != nil {
			return err
		}
		return h.save(ctx, out.Endpoint, "webhook.rotate", nil)
	})
	return out, err
}

// Tell makes a delivery of the event for each endpoint that wants it, in the
// event's transaction. It is what audit.Config.Tell is for.
func (h *Hooks) Tell(ctx context.Context, e audit.Event) error {
	var endpoints []Endpoint
	if err := h.Store.For(ctx).Where("tenant_id = ? AND status = 'active'", e.TenantID).Find(&endpoints).Error; err != nil {
		return err
	}
	for _, to := range endpoints {
		if !slices.ContainsFunc(to.Events, func(pattern string) bool { return wants(pattern, e.Action) }) {
			continue
		}
		if err := h.enqueue(ctx, to, e.ID, e.Action, e.OccurredAt, map[string]any{"id": e.ID, "seq": e.Seq, "occurred_at": e.OccurredAt,
			"actor_kind": e.ActorKind, "actor_id": e.ActorID, "impersonator": e.Impersonator, "action": e.Action, "target": e.Target,
			"outcome": e.Outcome, "request_id": e.RequestID, "detail": e.Detail, "prev_hash": e.PrevHash, "hash": e.Hash}); err != nil {
			return err
		}
	}
	return nil
}

func wants(pattern, action string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(action, prefix)
	}
	return pattern == action
}

func (h *Hooks) enqueue(ctx context.Context, to Endpoint, message, kind string, at time.Time, data any) error {
	body, err := json.Marshal(map[string]any{"type": kind, "timestamp": at.UTC().Format(time.RFC3339Nano), "data": data})
	if err != nil {
		return err
	}
	return h.put(ctx, &Delivery{Owned: to.Owned, EndpointID: to.ID, MessageID: message, Type: kind, Body: string(body)})
}

func (h *Hooks) put(ctx context.Context, d *Delivery) error {
	now := h.Now().UTC()
	d.ID, d.Status, d.Attempts, d.CreatedAt, d.NextAt, d.Payload = domain.NewID("whd"), "pending", []Attempt{}, now, &now, json.RawMessage(d.Body)
	if err := h.Store.For(ctx).Create(d).Error; err != nil {
		return err
	}
	return h.Queue.Enqueue(ctx, Job{Tenant: d.TenantID, Delivery: d.ID}, domain.JobOptions{})
}

// Test sends a webhook.test to the endpoint, whatever it has subscribed to.
func (h *Hooks) Test(ctx context.Context, in IDRequest) (d Delivery, err error) {
	err = h.Store.Tx(ctx, func(ctx context.Context) error {
		var to Endpoint
		if err := h.lock(ctx, in.ID, &to); err != nil {
			return err
		}
		now := h.Now().UTC()
		body, err := json.Marshal(map[string]any{"type": "webhook.test", "timestamp": now.Format(time.RFC3339Nano), "data": map[string]string{"endpoint_id": to.ID}})
		if err != nil {
			return err
		}
		d = Delivery{Owned: to.Owned, EndpointID: to.ID, MessageID: domain.NewID("evt"), Type: "webhook.test", Body: string(body)}
		if err := h.put(ctx, &d); err != nil {
			return err
		}
		return h.Audit.Record(ctx, audit.Entry{Action: "webhook.test", Target: to.ID})
	})
	return d, err
}

// DeliveriesRequest asks for the log of an endpoint.
type DeliveriesRequest struct {
	domain.PageRequest
	ID     string `path:"id"`
	Status string `query:"status" enum:"pending,delivered,failed"`
}

// Deliveries is the log of an endpoint, newest first.
func (h *Hooks) Deliveries(ctx context.Context, in DeliveriesRequest) (page domain.Page[Delivery], err error) {
	err = h.Store.Read(ctx, func(ctx context.Context) error {
		if err := h.Store.For(ctx).Where("id = ?", in.ID).Take(&Endpoint{}).Error; err != nil {
			return err
		}
		q := h.Store.For(ctx).Where("endpoint_id = ?", in.ID)
		if in.Status != "" {
			q = q.Where("status = ?", in.Status)
		}
		page, err = store.Newest(q, in.PageRequest, func(d Delivery) string { return d.ID })
		return err
	})
	for i := range page.Data {
		page.Data[i].Payload = json.RawMessage(page.Data[i].Body)
	}
	return page, err
}

// Replay sends a delivery once more, as a new one with the same webhook-id.
func (h *Hooks) Replay(ctx context.Context, in IDRequest) (d Delivery, err error) {
	err = h.Store.Tx(ctx, func(ctx context.Context) error {
		var old Delivery
		if err := h.Store.For(ctx).Where("id = ?", in.ID).Take(&old).Error; err != nil {
			return err
		}
		d = Delivery{Owned: old.Owned, EndpointID: old.EndpointID, MessageID: old.MessageID, Type: old.Type, Body: old.Body}
		if err := h.put(ctx, &d); err != nil {
			return err
		}
		return h.Audit.Record(ctx, audit.Entry{Action: "webhook.replay", Target: old.ID})
	})
	return d, err
}

// Job is one attempt. It waits for a stranger's server: work it in a lane apart.
type Job struct {
	Tenant   string `json:"tenant"`
	Delivery string `json:"delivery"`
}

// Kind is the queue's.
func (Job) Kind() string { return "webhook" }

// Outward keeps it waiting in quarantine.
func (Job) Outward() {}

// Deliver makes one attempt and, where it fails, plans the next.
func (h *Hooks) Deliver(ctx context.Context, j Job) error {
	ctx = domain.WithScope(ctx, domain.Scope{Tenant: j.Tenant, Actor: domain.Actor{Kind: "system", ID: "webhook delivery"}})
	var d Delivery
	var to Endpoint
	err := h.Store.Read(ctx, func(ctx context.Context) error {
		if err := h.Store.For(ctx).Where("id = ?", j.Delivery).Take(&d).Error; err != nil {
			return err
		}
		return h.Store.For(ctx).Where("id = ?", d.EndpointID).Take(&to).Error
	})
	if err != nil || d.Status != "pending" {
		return err // the endpoint is gone, or another worker was first
	}
	a := Attempt{At: h.Now().UTC()}
	if to.Status != "active" && d.Type != "webhook.test" {
		a.Error = "the endpoint is disabled"
		return h.finish(ctx, d, a, false)
	}
	start := time.Now()
	a.Status, a.Error = h.post(ctx, to, d, a.At)
	a.TookMS = time.Since(start).Milliseconds()
	return h.finish(ctx, d, a, a.Status >= 200 && a.Status < 300)
}

// finish writes the attempt down and what comes of it.
func (h *Hooks) finish(ctx context.Context, d Delivery, a Attempt, ok bool) error {
	return h.Store.Tx(ctx, func(ctx context.Context) error {
		var to Endpoint
		if err := h.lock(ctx, d.EndpointID, &to); err != nil {
			return err
		}
		now := h.Now().UTC()
		d.Attempts, d.NextAt = append(d.Attempts, a), nil
		switch tried := len(d.Attempts); {
		case ok:
			d.Status, d.EndedAt = "delivered", &now
		case tried > len(retryAfter) || a.Status == http.StatusGone || to.Status != "active":
			d.Status, d.EndedAt = "failed", &now
		default:
			next := now.Add(retryAfter[tried-1])
			d.NextAt = &next
			if err := h.Queue.Enqueue(ctx, Job{Tenant: d.TenantID, Delivery: d.ID}, domain.JobOptions{At: next}); err != nil {
				return err
			}
		}
		if err := h.Store.For(ctx).Model(&Delivery{}).Where("id = ?", d.ID).Select("status", "attempts", "next_at", "ended_at").Updates(&d).Error; err != nil {
			return err
		}
		switch {
		case to.Status != "active":
			return nil
		case ok && to.FailingSince != nil:
			to.FailingSince = nil
			return h.save(ctx, to, "", nil)
		case ok:
			return nil
		case to.FailingSince == nil:
			to.FailingSince = &now
		}
		reason := ""
		if a.Status == http.StatusGone {
			reason = "gone"
		} else if now.Sub(*to.FailingSince) > disableAfter {
			reason = "failing"
		}
		if reason == "" {
			return h.save(ctx, to, "", nil)
		}
		to.Status, to.DisabledReason, to.UpdatedAt = "disabled", reason, now
		return h.save(ctx, to, "webhook.disable", map[string]any{"reason": reason})
	})
}

// post sends the message. The error is one that a customer may read: it says
// what their server did, and nothing of our network.
func (h *Hooks) post(ctx context.Context, to Endpoint, d Delivery, at time.Time) (status int, failure string) {
	secrets, err := h.secrets(to)
	if err != nil {
		return 0, "the signing secret cannot be read: rotate it"
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader([]byte(d.Body)))
	if err != nil {
		return 0, "the address is not one"
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for _, s := range secrets {
		if s.Until.IsZero() || at.Before(s.Until) {
			signatures = append(signatures, sign(s.Secret, d.MessageID, stamp, d.Body))
		}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "ChainReactions-Webhooks/1")
	req.Header.Set("webhook-id", d.MessageID)
	req.Header.Set("webhook-timestamp", stamp)
	req.Header.Set("webhook-signature", strings.Join(signatures, " "))
	res, err := h.client.Do(req)
	if err != nil {
		return 0, explain(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 16<<10) // so that the connection can be used again
	return res.StatusCode, ""
}

// explain tells a delivery's owner why there was no answer.
func explain(err error) string {
	var dns *net.DNSError
	var network net.Error
	switch {
	case domain.KindOf(err) == domain.Invalid:
		return "the address may not be reached from here"
	case errors.As(err, &dns):
		return "the name does not resolve"
	case errors.As(err, &network) && network.Timeout():
		return "no answer in time"
	case strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		return "the TLS certificate is not valid"
	}
	return "the connection failed"
}

func sign(secret, id, stamp, body string) string {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_")) // ours
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id + "." + stamp + "." + body))
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// Retire removes deliveries that ended before a time, in every tenant.
func (h *Hooks) Retire(ctx context.Context, before time.Time) (int64, error) {
	var n int64
	err := h.Store.Tx(domain.System(ctx, "webhook log retention"), func(ctx context.Context) error {
		gone := h.Store.For(ctx).Where("created_at < ? AND status <> 'pending'", before.UTC()).Delete(&Delivery{})
		n = gone.RowsAffected
		return gone.Error
	})
	return n, err
}

var _ = domain.Chinese(map[string]string{
	"This must be an https address.":                                                 "必须是 https 地址。",
	"This address may not be reached from here.":                                     "不允许从此处访问该地址。",
	"An event is an action such as dataset.create, a group such as dataset.*, or *.": "事件是 dataset.create 这样的操作、dataset.* 这样的组，或 *。",
	"A tenant has at most %d webhook endpoints.":                                     "每个租户最多有 %d 个 webhook 端点。",
})
