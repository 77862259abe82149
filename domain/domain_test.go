package domain

import (
	"context"
	"sort"
	"testing"
)

// An id has one spelling, sorts by the time it was made, and cannot be taken
// for an id of another type.
func TestIDs(t *testing.T) {
	var made []string
	for range 200 {
		made = append(made, NewID("ds"))
	}
	if !sort.StringsAreSorted(made) {
		t.Error("ids do not sort by time")
	}
	id := made[0]
	key, ok := ParseID("ds", id)
	if !ok || FormatID("ds", key) != id {
		t.Errorf("ParseID(%q) does not round-trip", id)
	}
	last := id[len(id)-1]
	for _, c := range "0123456789abcdefghjkmnpqrstvwxyz" {
		if byte(c) != last && ValidID("ds", id[:len(id)-1]+string(c)) {
			if k, _ := ParseID("ds", id[:len(id)-1]+string(c)); k == key {
				t.Errorf("two spellings of one id: %q and …%c", id, c)
			}
		}
	}
	for _, bad := range []string{"", "ds_", "ent_" + id[3:], id + "0", id[:len(id)-1], "ds_" + "!" + id[4:]} {
		if ValidID("ds", bad) {
			t.Errorf("ValidID accepts %q", bad)
		}
	}
}

// A tenant's scope cannot be made a system scope by copying one, and a system
// scope names no tenant.
func TestScopes(t *testing.T) {
	ctx := System(context.Background(), "test")
	s, _ := ScopeOf(ctx)
	if reason, ok := s.System(); !ok || reason != "test" || s.Tenant != "" {
		t.Fatalf("system scope: %+v", s)
	}
	s.Tenant = "ten_x"
	s2, _ := ScopeOf(WithScope(ctx, s))
	if _, ok := s2.System(); ok {
		t.Error("WithScope carried the system mark into a tenant's scope")
	}
}

// A page says there is more exactly when there is.
func TestPages(t *testing.T) {
	key := func(s string) string { return s }
	p := NewPage([]string{"a", "b", "c"}, 2, key)
	if len(p.Data) != 2 || p.NextCursor == nil {
		t.Fatalf("page: %+v", p)
	}
	after, err := PageRequest{Cursor: *p.NextCursor}.After()
	if err != nil || after != "b" {
		t.Errorf("cursor: %q %v", after, err)
	}
	if p := NewPage([]string{"a", "b"}, 2, key); p.NextCursor != nil {
		t.Error("a full last page points on")
	}
	if p := NewPage[string](nil, 2, key); p.Data == nil {
		t.Error("an empty page is null in JSON")
	}
	if _, err := (PageRequest{Cursor: "%%"}).After(); KindOf(err) != Invalid {
		t.Error("a broken cursor is accepted")
	}
}
