package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// patient is a guard whose clock the test moves, and which notes how long attempts would wait.
type patient struct {
	*guard
	at    time.Time
	waits []time.Duration
}

func newPatient() *patient {
	p := &patient{at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	p.guard = newGuard(func() time.Time { return p.at })
	p.wait = func(_ context.Context, d time.Duration) error {
		p.waits = append(p.waits, d)
		return nil
	}
	return p
}

// guess fails once, and says whether the guess was looked at.
func (p *patient) guess(user, address string) bool {
	if p.enter(context.Background(), user, address) != nil {
		return false
	}
	p.failed(user, address)
	return true
}

func TestGuardDoubles(t *testing.T) {
	p := newPatient()
	for i := range freeForName {
		if !p.guess("alice", fmt.Sprint("192.0.2.", i)) || len(p.waits) != 0 {
			t.Fatalf("failure %d costs %v", i, p.waits)
		}
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		want *= time.Second
		p.at = p.at.Add(want - time.Nanosecond)
		before := len(p.waits)
		if !p.guess("alice", "198.51.100.1") || len(p.waits) != before+1 || p.waits[before] != time.Nanosecond {
			t.Fatalf("the delay is not %v: %v", want, p.waits[before:])
		}
		// The time that passes meanwhile counts from the failure.
		p.entries["name alice"].next = p.at.Add(p.entries["name alice"].delay(0))
	}
	if p.guess("alice", "198.51.100.1") {
		t.Error("an attempt a minute too early is looked at")
	}
	if !p.guess("bob", "198.51.100.1") {
		t.Error("another name is slowed down")
	}
	p.succeeded("alice")
	before := len(p.waits)
	if !p.guess("alice", "203.0.113.9") || len(p.waits) != before {
		t.Error("a success does not forget the failures")
	}
}

// TestGuardQueues: attempts that come at once wait one behind the other, and the rest is refused.
func TestGuardQueues(t *testing.T) {
	p := newPatient()
	for range freeForName {
		p.guess("alice", "192.0.2.1")
	}
	looked := 0
	for range 100 {
		if p.enter(context.Background(), "alice", "192.0.2.1") == nil {
			looked++
		}
	}
	if looked != 5 || p.waits[4] != 5*time.Second {
		t.Errorf("%d are looked at, after %v", looked, p.waits)
	}
}

func TestGuardCountsAddresses(t *testing.T) {
	p := newPatient()
	for i := range freeForAddress {
		// One network of IPv6 is one client, whatever its port.
		if !p.guess(fmt.Sprint("user", i), fmt.Sprintf("[2001:db8::%x]:%d", i, 1000+i)) {
			t.Fatal("too early")
		}
	}
	if p.guess("someone", "2001:db8::ffff"); len(p.waits) != 1 || p.waits[0] != time.Second {
		t.Errorf("waits %v", p.waits)
	}
	if p.guess("someone", "[2001:db8:0:1::1]:99"); len(p.waits) != 1 {
		t.Errorf("another network waits: %v", p.waits)
	}
	p.at = p.at.Add(forgetAfter)
	if p.guess("someone", "2001:db8::ffff"); len(p.waits) != 1 {
		t.Errorf("it is never forgotten: %v", p.waits)
	}
}

func TestGuardIsBounded(t *testing.T) {
	p := newPatient()
	long := strings.Repeat("x", 1<<20)
	for i := range maxFailures + 10 {
		p.failed(fmt.Sprint(i, long[:100]), "")
	}
	if len(p.entries) > maxFailures+2 {
		t.Errorf("%d entries", len(p.entries))
	}
	p.failed(long, "x")
	for k := range p.entries {
		if len(k) > 60 {
			t.Fatalf("a key of %d bytes", len(k))
		}
	}
}

// TestSlowDown: the right password is not looked at either while its name is being guessed at, unless it was right before.
func TestSlowDown(t *testing.T) {
	at := time.Now()
	p, err := newPasswords(func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	p.guard.wait = func(context.Context, time.Duration) error { return nil }
	hash := func(s string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(s), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	alice, bob := known{hash: hash("right"), active: true}, known{hash: hash("right"), active: true}
	check := func(who known, user, secret string) error {
		return p.check(context.Background(), who, true, login{user, secret, "192.0.2.1"})
	}
	if err := check(bob, "bob", "right"); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "bob"} {
		slowed := false
		for i := 0; i < 50 && !slowed; i++ {
			slowed = errors.Is(check(alice, user, "wrong"), ErrSlowDown)
		}
		if !slowed {
			t.Errorf("guessing at %s is not slowed down", user)
		}
	}
	if err := check(alice, "alice", "right"); !errors.Is(err, ErrSlowDown) {
		t.Errorf("%v", err)
	}
	if err := check(bob, "bob", "right"); err != nil {
		t.Errorf("bob's own clients are locked out: %v", err)
	}
	at = at.Add(forgetAfter)
	if err := check(alice, "alice", "right"); err != nil {
		t.Errorf("it is never forgotten: %v", err)
	}
}
