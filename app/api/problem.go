package api

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/chainreactions/chainreactions/domain"
)

// statuses is the one place where kinds become HTTP (API.md, "Conventions").
var statuses = map[domain.Kind]struct {
	status       int
	title, codes string
}{
	domain.Internal:         {500, "Internal error", "`internal`"},
	domain.Malformed:        {400, "Malformed request", "`malformed_json`, `malformed_request` and the like"},
	domain.Invalid:          {422, "Invalid request", "`invalid` with the fields, `idempotency_mismatch`"},
	domain.Unauthenticated:  {401, "Not authenticated", "`unauthenticated`, `token_expired`, `invalid_credentials`, `mfa_required`"},
	domain.PaymentRequired:  {402, "Payment required", "`subscription_inactive`"},
	domain.Forbidden:        {403, "Not allowed", "`forbidden`, `feature_not_in_plan`, `tenant_mismatch`, `email_unverified`, `tenant_suspended`, `step_up_required`"},
	domain.NotFound:         {404, "Not found", "`not_found`: it is not there, or it is another tenant's"},
	domain.Conflict:         {409, "Conflict", "`conflict`, `idempotency_in_progress` and the like"},
	domain.TooLarge:         {413, "Too large", "`body_too_large`"},
	domain.UnsupportedMedia: {415, "Unsupported media type", "`unsupported_media_type`"},
	domain.TooMany:          {429, "Too many requests", "`rate_limited`, `quota_exceeded`, `concurrency_limited`, `queue_full`"},
	domain.Unavailable:      {503, "Not available now", "`dependency_unavailable`, `provider_not_configured`, `provider_unavailable`, `queue_full`, `switched_off`"},
	domain.Canceled:         {499, "Canceled", "`canceled`"},
}

// problem is an RFC 9457 body. instance is the pattern of the route, not the
// path: a missing object and another tenant's then answer the same bytes.
type problem struct {
	Type      string         `json:"type" doc:"a reference that names the problem"`
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Detail    string         `json:"detail"`
	Instance  string         `json:"instance"`
	Code      string         `json:"code" doc:"the stable word to switch on"`
	RequestID string         `json:"request_id"`
	Errors    []problemField `json:"errors,omitempty"`
}

type problemField struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// writeProblem answers err in the language.
func writeProblem(c *fiber.Ctx, lang, pattern, requestID string, err error) int {
	var e *domain.Error
	if !errors.As(err, &e) {
		e = domain.E(domain.Internal, "internal", "Something went wrong on our side. The request id helps us to find it.")
	}
	st := statuses[e.Kind]
	p := problem{
		Type: "/problems/" + e.Code, Title: domain.Sentence(lang, st.title), Status: st.status,
		Detail: domain.Sentence(lang, e.Format, e.Args...), Instance: pattern, Code: e.Code, RequestID: requestID,
	}
	for _, f := range e.Fields {
		p.Errors = append(p.Errors, problemField{f.Name, f.Code, domain.Sentence(lang, f.Format, f.Args...)})
	}
	if e.RetryAfter > 0 || st.status == 429 { // API.md: a refusal carries it
		c.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(e.RetryAfter.Seconds())))))
	}
	if st.status == 401 {
		c.Set("WWW-Authenticate", `Bearer realm="chainreactions"`)
	}
	body, _ := json.Marshal(p)
	media := "application/problem+json"
	if strings.HasPrefix(pattern, scimBase) {
		media, p.Status = scimMedia, scimStatus(st.status)
		st.status = p.Status
		body, _ = json.Marshal(scimErrorOf(e.Code, p))
	}
	c.Status(st.status).Set("Content-Type", media)
	c.Set("Content-Language", map[string]string{"zh": "zh-CN"}[lang])
	if lang != "zh" {
		c.Set("Content-Language", "en")
	}
	_ = c.Send(body)
	return st.status
}

// language is that of the request, else of the person, else of the tenant.
func (x *exchange) language() string {
	if x.c.Get("Accept-Language") == "" {
		for _, locale := range []string{x.principal.Locale, x.locale} {
			if locale != "" {
				return strings.ToLower(locale[:2])
			}
		}
	}
	return accepted(x.c)
}

// accepted is "zh" where the client prefers Chinese to English.
func accepted(c *fiber.Ctx) string {
	if strings.HasPrefix(c.AcceptsLanguages("en", "zh", "zh-CN", "zh-Hans"), "zh") {
		return "zh"
	}
	return "en"
}

var _ = domain.Chinese(map[string]string{
	"Internal error": "内部错误", "Malformed request": "请求格式错误", "Invalid request": "请求无效",
	"Not authenticated": "未通过身份验证", "Payment required": "需要付款", "Not allowed": "不允许",
	"Not found": "未找到", "Conflict": "冲突", "Too large": "过大", "Unsupported media type": "不支持的媒体类型",
	"Too many requests": "请求过多", "Not available now": "暂时不可用", "Canceled": "已取消",
	"Something went wrong on our side. The request id helps us to find it.": "我们这边出了问题。请求编号可帮助我们定位。",
})
