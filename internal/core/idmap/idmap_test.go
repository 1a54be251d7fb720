package idmap

import (
	"slices"
	"testing"
)

func TestMap(t *testing.T) {
	m := Map{UIDs: []Range{{0, 100000, 1000}, {1000, 300000, 10}}, GIDs: []Range{{0, 200000, 65536}}}
	if u, g := m.Root(); u != 100000 || g != 200000 {
		t.Error(u, g)
	}
	if u, g, ok := m.Outside(1009, 5); u != 300009 || g != 200005 || !ok {
		t.Error(u, g, ok)
	}
	if _, _, ok := m.Outside(1010, 5); ok {
		t.Error("1010 is not mapped")
	}
	if u, g := m.Inside(300001, 0); u != 1001 || g != overflow {
		t.Error(u, g)
	}
	if n := Top(m.UIDs); n != 1009 {
		t.Error(n)
	}
}

func TestSubordinate(t *testing.T) {
	file := "# ranges\nother:100000:65536\nme:165536:1000\n\n1000:500000:10\nbroken\nme:200000:0\n"
	got, err := Subordinate(file, "me", 1000)
	if want := []Range{{0, 165536, 1000}, {1000, 500000, 10}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := Subordinate(file, "none", 7); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
	if _, err := Subordinate("me:x:1", "me", 1); err == nil {
		t.Error("a range that is no number")
	}
	if n := Free(file); n != 500010 {
		t.Error(n)
	}
	if n := Free(""); n != 100000 {
		t.Error(n)
	}
}

func FuzzSubordinate(f *testing.F) {
	f.Add("me:100000:65536\n", "me", 1000)
	f.Add("1000:1:1\nme:4294967295:4294967295", "me", 1000)
	f.Fuzz(func(t *testing.T, file, name string, id int) {
		list, err := Subordinate(file, name, id)
		if err != nil {
			return
		}
		next := 0
		for _, r := range list {
			if r.Inside != next || r.Size <= 0 || r.Outside < 0 {
				t.Fatalf("%+v in %v", r, list)
			}
			next += r.Size
		}
		_ = Free(file)
	})
}
