package ids

import (
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	seen := map[string]bool{}
	for range 5000 {
		id := New()
		if !Valid(id) || !Prefix(Short(id)) || digits(Short(id)) {
			t.Fatalf("bad identifier %q", id)
		}
		if seen[id] {
			t.Fatalf("%s twice", id)
		}
		seen[id] = true
	}
}

func TestRecognition(t *testing.T) {
	for s, want := range map[string][2]bool{ // valid, prefix
		"":                             {false, false},
		"abc":                          {false, true},
		"ABC":                          {false, false},
		strings.Repeat("0a", 32):       {true, true},
		strings.Repeat("0a", 32) + "b": {false, false},
		strings.Repeat("g", 64):        {false, false},
	} {
		if Valid(s) != want[0] || Prefix(s) != want[1] {
			t.Errorf("%q: valid %v, prefix %v", s, Valid(s), Prefix(s))
		}
	}
	if Short("abc") != "abc" || Short(strings.Repeat("a", 64)) != strings.Repeat("a", 12) {
		t.Error("Short")
	}
}
