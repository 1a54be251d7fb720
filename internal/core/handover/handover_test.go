package handover_test

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"longshore/internal/core/handover"
)

const ours, other = digest.Digest("sha256:a"), digest.Digest("sha256:b")

func TestOffer(t *testing.T) {
	var k handover.Desk
	ticket := k.Offer(ours, "/a")
	k.Deliver(ticket, ours, "/elsewhere") // not what it is for
	d, path, ok := k.Accept(ticket)
	if !ok || d != ours || path != "/a" {
		t.Fatal(d, path, ok)
	}
	if _, _, ok := k.Accept(ticket); ok {
		t.Error("one offer was accepted twice")
	}
	if path, ok := k.Collect(ticket); !ok || path != "/a" {
		t.Error(path, ok)
	}
	if _, _, ok := k.Accept(ticket); ok {
		t.Error("an offer that has ended was accepted")
	}
	if _, ok := k.Collect(k.Offer(ours, "/a")); ok {
		t.Error("nobody accepted")
	}
}

func TestExpect(t *testing.T) {
	var k handover.Desk
	ticket := k.Expect(ours)
	if _, _, ok := k.Accept(ticket); ok {
		t.Error("that is no offer")
	}
	k.Deliver(ticket, other, "/b")
	k.Deliver("forged", ours, "/c")
	k.Deliver("", ours, "/c")
	if _, ok := k.Collect(ticket); ok {
		t.Error("another blob was delivered")
	}
	ticket = k.Expect(ours)
	k.Deliver(ticket, ours, "/a")
	if path, ok := k.Collect(ticket); !ok || path != "/a" {
		t.Error(path, ok)
	}
	if _, ok := k.Collect(ticket); ok {
		t.Error("a ticket is good once")
	}
}
