package names

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

func id(prefix string) string { return prefix + strings.Repeat("0", 64-len(prefix)) }

func TestFind(t *testing.T) {
	x := NewIndex[string]()
	for name, prefix := range map[string]string{"one": "abc1", "two": "abd2", "abc": "fff"} {
		if _, ok := x.Reserve(name, id(prefix)); !ok {
			t.Fatal(name)
		}
		x.Add(id(prefix), name)
	}
	for ref, want := range map[string]string{
		"one": "one", "/one": "one", id("abc1"): "one", "abd": "two", "abc": "abc", "ff": "abc",
		"ab": "Multiple IDs found with provided prefix: ab", "9": "No such container: 9", "on": "No such container: on",
		"": "invalid container name or ID: value is empty",
	} {
		got, err := x.Find(ref)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", ref, got, want)
		}
	}
	if owner, ok := x.Reserve("one", id("e")); ok || owner != id("abc1") {
		t.Errorf("a taken name was given away: %s %v", owner, ok)
	}
	x.Remove(id("abc1"), "one")
	if _, err := x.Find("one"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
	if _, ok := x.Reserve("one", id("e")); !ok {
		t.Error("the name was not freed")
	}
	x.Release("one", id("other"))
	if _, ok := x.Reserve("one", id("f")); ok {
		t.Error("a stranger freed the name")
	}
	if n := len(x.All()); n != 2 {
		t.Errorf("%d values left", n)
	}
}

// TestOneOwner: however many try at once, a name has one owner.
func TestOneOwner(t *testing.T) {
	x := NewIndex[int]()
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 50 {
		wg.Go(func() {
			if _, ok := x.Reserve("name", fmt.Sprint(i)); ok {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d owners", won)
	}
}

func TestGenerate(t *testing.T) {
	re := regexp.MustCompile(`^[a-z]+_[a-z]+[0-9]?$`)
	seen := map[string]bool{}
	for i := range 200 {
		n := Generate(i % 2)
		if !re.MatchString(n) {
			t.Errorf("odd name %q", n)
		}
		seen[n] = true
	}
	if len(seen) < 150 {
		t.Errorf("only %d different names of 200", len(seen))
	}
}
