package provider

import "github.com/chainreactions/chainreactions/domain/research"

// mostSearches is how often a grounded model is taken to search, at most.
const mostSearches = 20

// Most is the most, in micro-dollars, that one answered call of a kind can cost
// with so many tokens, whichever of the configured vendors answers. A run's
// budget is held against it before the call.
func (p *Providers) Most(kind research.Kind, tokens research.Usage) (most int64) {
	price := geminiPrice(p.Accounts[Gemini].Model, p.Now())
	price.in, price.out = max(price.in, price.longIn), max(price.out, price.longOut)
	costs := map[string]int64{}
	switch kind {
	case research.ModelCall:
		costs[Gemini] = price.cost(tokens.InputTokens, tokens.OutputTokens)
	case research.GroundedCall:
		costs[Gemini] = price.cost(tokens.InputTokens, tokens.OutputTokens) + mostSearches*price.search
	case research.SearchCall:
		costs[BrightData], costs[Linkup] = brightDataMicros, 0
		if len(p.configuredOf(BrightData, SearXNG)) == 0 {
			costs[Linkup] = linkupStandardResults
		}
	case research.ProfileCall:
		costs[Linkup] = linkupStandardAnswer
	case research.DeepProfile:
		costs[Linkup] = linkupDeepAnswer
	}
	for name, c := range costs {
		if p.vendors[name] != nil {
			most = max(most, c)
		}
	}
	return most
}
