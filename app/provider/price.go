package provider

import (
	"strings"
	"time"
)

// price of a model in thousandths of a micro-dollar a token (which is a
// thousandth of the list's dollars a million tokens), and of one search in
// micro-dollars.
type price struct {
	prefix     string
	until      time.Time // the price ends then; zero is for good
	in, cached int64
	out        int64
	longIn     int64 // of prompts above 200,000 tokens, where they cost more
	longOut    int64
	search     int64
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// geminiPrices are Google's list prices as of 2026-11-22, the longest prefix
// and the first that has not ended. Grounding is free for the first 5,000 a
// month; here every search costs, for how many were asked elsewhere is not
// known.
var geminiPrices = []price{
	{prefix: "gemini-4-argon", until: day(2026, 12, 1), in: 2000, cached: 100, out: 10000, search: 14000},
	{prefix: "gemini-4-argon", in: 4000, out: 20000, search: 14000},
	{prefix: "gemini-3.8-flash", until: day(2026, 12, 31), in: 750, out: 3750, search: 14000},
	{prefix: "gemini-3.8-flash", in: 1500, out: 7500, search: 14000},
	{prefix: "gemini-3.5-flash-lite", in: 300, out: 2500, search: 14000},
	{prefix: "gemini-3.5-flash", in: 1500, out: 9000, search: 14000},
	{prefix: "gemini-3.1-pro", in: 2000, out: 12000, longIn: 4000, longOut: 18000, search: 14000},
	{prefix: "", in: 4000, out: 20000, longIn: 4000, longOut: 20000, search: 14000}, // a model that is not listed costs what the dearest does
}

func geminiPrice(model string, now time.Time) price {
	model = strings.TrimPrefix(model, "models/")
	best := -1
	for i, p := range geminiPrices {
		if strings.HasPrefix(model, p.prefix) && (p.until.IsZero() || now.Before(p.until)) && (best < 0 || len(p.prefix) > len(geminiPrices[best].prefix)) {
			best = i
		}
	}
	return geminiPrices[best]
}

// cost of tokens in micro-dollars, rounded up.
func (p price) cost(in, out int64) int64 {
	inRate, outRate := p.in, p.out
	if in > 200_000 && p.longIn > 0 {
		inRate, outRate = p.longIn, p.longOut
	}
	return (in*inRate + out*outRate + 999) / 1000
}

// total of one answer.
func (p price) total(s geminiSpent, searches int) int64 {
	c := p.cost(s.input, s.output)
	if p.cached > 0 && s.cached > 0 && s.cached <= s.input {
		c -= s.cached * (p.in - p.cached) / 1000
	}
	return c + int64(searches)*p.search
}

// What the others charge for one answered request, in micro-dollars: Linkup's
// list as of 2026-11-22, and Bright Data's pay-as-you-go price, which contracts
// differ from. SearXNG and a model of one's own cost nothing that a vendor
// bills.
const (
	brightDataMicros      = 1500
	linkupStandardResults = 5000
	linkupStandardAnswer  = 6000
	linkupDeepAnswer      = 55000
	linkupFetchMicros     = 5000 // at most, with scripts run
)
