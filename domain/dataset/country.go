package dataset

import "strings"

func country(name string) (code string, ok bool) {
	if c := strings.ToUpper(strings.TrimSpace(name)); len(c) == 2 {
		return c, true
	}
	return "", false
}
