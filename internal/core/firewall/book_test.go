package firewall

import (
	"net/netip"
	"testing"
)

// TestBook enters ports that share a target, replaces one, and strikes them out.
func TestBook(t *testing.T) {
	at := func(port uint16, target string) Port {
		return Port{Proto: 6, HostIP: netip.IPv4Unspecified(), HostPort: port, Target: netip.MustParseAddrPort(target)}
	}
	a, b, moved := at(80, "10.0.0.2:80"), at(81, "10.0.0.2:80"), at(81, "10.0.0.3:80")
	book := NewBook()
	book.Reset([]Network{{Bridge: "z"}, {Bridge: "a"}}, nil)
	if n := book.Sorted(); len(n) != 2 || n[0].Bridge != "a" {
		t.Errorf("networks: %v", n)
	}
	if first := book.Add([]Port{a, b}); len(first) != 1 || first[0] != a {
		t.Errorf("first to their target: %v", first)
	}
	if first := book.Add([]Port{moved}); len(first) != 1 || book.Has(b) || !book.Has(moved) || len(book.Targets()) != 2 {
		t.Errorf("replaced: %v, %v", first, book.Targets())
	}
	if last := book.Remove([]Port{a}); len(last) != 1 || len(book.Ports) != 1 || len(book.Targets()) != 1 {
		t.Errorf("last of their target: %v, %v", last, book)
	}
	book.Reset(nil, nil)
	if len(book.Networks)+len(book.Ports)+len(book.Targets()) != 0 {
		t.Errorf("not empty: %v", book)
	}
}
