package dataset

import (
	"strings"

	"github.com/chainreactions/chainreactions/domain/geo"
)

// country gives the code of a country by code or name in any language that
// geo knows; unknown stays unknown. In a place for a country, two letters of
// any case are a code.
func country(name string) (code string, ok bool) {
	if name = strings.TrimSpace(name); len(name) == 2 {
		name = strings.ToUpper(name)
	}
	c, ok := geo.Resolve(name)
	return c.Code, ok
}
