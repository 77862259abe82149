package seal

import "testing"

// A sealed value opens in its own box, under its own name, unchanged; nowhere else.
func TestBox(t *testing.T) {
	secret := []byte("0123456789abcdef0123456789abcdef")
	box := New(secret, "a")
	sealed := box.Seal("row 1", []byte("canary"))
	if plain, err := box.Open("row 1", sealed); err != nil || string(plain) != "canary" {
		t.Fatalf("%q %v", plain, err)
	}
	changed := []byte(sealed)
	changed[len(changed)/2] ^= 1
	for what, open := range map[string]func() ([]byte, error){
		"another row":     func() ([]byte, error) { return box.Open("row 2", sealed) },
		"another purpose": func() ([]byte, error) { return New(secret, "b").Open("row 1", sealed) },
		"another secret":  func() ([]byte, error) { return New([]byte("x"), "a").Open("row 1", sealed) },
		"a changed byte":  func() ([]byte, error) { return box.Open("row 1", string(changed)) },
		"nothing":         func() ([]byte, error) { return box.Open("row 1", "") },
	} {
		if plain, err := open(); err == nil {
			t.Errorf("%s opens it: %q", what, plain)
		}
	}
}
