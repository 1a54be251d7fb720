// Package iptables is the engine's firewall for hosts whose kernel has no nf_tables, and for those that ask for it
// (firewall-backend). It does what driver/nftables does with chains of its own, whose names begin with LONGSHORE, one
// jump to each from the kernel's chains, and nothing else:
//
//	nat     LONGSHORE          published ports           LONGSHORE-POST, -HAIR  masquerading
//	filter  LONGSHORE-FORWARD  bridges' edges            LONGSHORE-IN, -TARGETS what may go into bridges
//	mangle  LONGSHORE-HOST     the host's own rules, before published ports are translated (mirror.go)
//	raw     LONGSHORE-RAW      nobody reaches the host's 127.0.0.0/8 through a bridge
//
// DOCKER-USER is the administrator's, as with dockerd: packets pass it first, the engine makes it and reads or changes
// nothing in it. Every change is one iptables-restore, atomic per table. A packet's path grows with the number of published
// ports, and each change takes some milliseconds: nftables is what hosts should use that have it.
package iptables

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"

	"longshore/internal/core/firewall"
)

// Prefix begins the names of our chains; AdminChain is the administrator's.
const (
	Prefix     = "LONGSHORE"
	AdminChain = "DOCKER-USER"
)

// Firewall owns the chains of the network namespace it is used in. Safe for concurrent use.
type Firewall struct {
	cfg  firewall.Config
	log  *slog.Logger
	tool tool

	mu      sync.Mutex // guards all below and orders changes
	book    firewall.Book
	seen    map[bool]seen // per family: what was last found and written
	last    lengths       // of the old tables when they were last read
	changed bool          // by us since then
}

// seen is what a family's tables were like after the last change of ours.
type seen struct {
	host   string         // the host's own input rules
	counts map[string]int // rules per chain of ours, by table and name
}

var _ firewall.Firewall = (*Firewall)(nil)

// New makes a firewall that has changed nothing yet; Reset installs it. variant is "" for the host's iptables, or the end
// of another's name: "-legacy", "-nft".
func New(cfg firewall.Config, variant string, log *slog.Logger) *Firewall {
	return &Firewall{cfg: cfg, log: log, tool: tool{variant}, book: firewall.NewBook(), seen: map[bool]seen{}}
}

// Usable says whether the host has iptables.
func Usable() bool { return tool{}.check(false) == nil }

// Retire takes away what this driver left on a host that uses another firewall now. Without our chains, or without
// iptables, nothing is done.
func Retire(log *slog.Logger) error {
	f := New(firewall.Config{}, "", log)
	if f.tool.check(false) != nil {
		return nil
	}
	saved, err := f.tool.save(false)
	if err != nil || len(parse(saved).ours("filter")) == 0 {
		return err
	}
	return f.Remove()
}

// tool runs the programs.
type tool struct{ variant string }

func (t tool) name(ipv6 bool, what string) string {
	if ipv6 {
		return "ip6tables" + t.variant + what
	}
	return "iptables" + t.variant + what
}

func (t tool) check(ipv6 bool) error {
	_, err := exec.LookPath(t.name(ipv6, "-restore"))
	return err
}

// restore puts a text in force, leaving alone what it does not name.
func (t tool) restore(ipv6 bool, text string) error {
	cmd := exec.Command(t.name(ipv6, "-restore"), "-w", "10", "--noflush")
	cmd.Stdin = strings.NewReader(text)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Args[0], err, strings.TrimSpace(out.String()))
	}
	return nil
}

// save is all rules of a family as text.
func (t tool) save(ipv6 bool) (string, error) {
	cmd := exec.Command(t.name(ipv6, "-save"))
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd.Args[0], err)
	}
	return string(out), nil
}

// families lists those that are ours to use here, IPv6 being true.
func (f *Firewall) families() []bool {
	var out []bool
	if !f.cfg.NoIPv4 {
		out = append(out, false)
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil && !f.cfg.NoIPv6 && f.tool.check(true) == nil {
		out = append(out, true)
	}
	return out
}

// Reset implements firewall.Firewall.
func (f *Firewall) Reset(networks []firewall.Network, ports []firewall.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.book.Reset(networks, ports)
	return f.install()
}

// install writes everything anew. The caller holds mu.
func (f *Firewall) install() error {
	for _, ipv6 := range f.families() {
		if err := f.installFamily(ipv6); err != nil {
			return err
		}
	}
	return nil
}

func (f *Firewall) installFamily(ipv6 bool) error {
	saved, err := f.tool.save(ipv6)
	if err != nil {
		return err
	}
	now := parse(saved)
	all := f.chains(ipv6, now)
	if err := f.tool.restore(ipv6, render(all, now, ipv6)); err != nil {
		return err
	}
	counts := map[string]int{}
	for _, c := range all {
		counts[c.table+" "+c.name] = len(c.rules)
	}
	f.seen[ipv6], f.changed = seen{host: now.host(), counts: counts}, true
	return nil
}

// AddNetwork implements firewall.Firewall.
func (f *Firewall) AddNetwork(n firewall.Network) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, had := f.book.Networks[n.Bridge]; had && reflect.DeepEqual(old, n) {
		return nil
	}
	f.book.Networks[n.Bridge] = n
	return f.install()
}

// RemoveNetwork implements firewall.Firewall.
func (f *Firewall) RemoveNetwork(bridge string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.book.Networks[bridge]; !ok {
		return nil
	}
	delete(f.book.Networks, bridge)
	return f.install()
}

// Publish implements firewall.Firewall.
func (f *Firewall) Publish(ports []firewall.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	ports = slices.DeleteFunc(slices.Clone(ports), func(p firewall.Port) bool { return f.book.Has(p) })
	if len(ports) == 0 {
		return nil
	}
	if slices.ContainsFunc(ports, func(p firewall.Port) bool { _, had := f.book.Ports[p.Key()]; return had }) {
		f.book.Add(ports)
		return f.install()
	}
	if err := f.change("-A", ports, f.book.Add(ports)); err != nil {
		f.book.Remove(ports)
		return errors.Join(err, f.install())
	}
	return nil
}

// Unpublish implements firewall.Firewall.
func (f *Firewall) Unpublish(ports []firewall.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	ports = slices.DeleteFunc(slices.Clone(ports), func(p firewall.Port) bool { return !f.book.Has(p) })
	if len(ports) == 0 {
		return nil
	}
	return f.change("-D", ports, f.book.Remove(ports))
}

// change adds (-A) or deletes (-D) ports' rules. When that fails because somebody removed our chains, everything is
// installed anew instead. The caller holds mu and has updated the book.
func (f *Firewall) change(do string, ports, targets []firewall.Port) error {
	for _, ipv6 := range f.families() {
		lines := f.portLines(ipv6, ports, targets)
		if len(lines) == 0 {
			continue
		}
		if _, ok := f.seen[ipv6]; !ok || f.tool.restore(ipv6, edits(do, lines)) != nil {
			if err := f.installFamily(ipv6); err != nil {
				return err
			}
			continue
		}
		for _, l := range lines {
			step := 1
			if do == "-D" {
				step = -1
			}
			f.seen[ipv6].counts[l.table+" "+l.chain] += step
		}
	}
	f.changed = true
	return nil
}

// Close implements firewall.Firewall: there is nothing to let go of.
func (f *Firewall) Close() {}

// Remove deletes our chains and the jumps to them.
func (f *Firewall) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.book.Reset(nil, nil)
	clear(f.seen)
	for _, ipv6 := range f.families() {
		saved, err := f.tool.save(ipv6)
		if err != nil {
			return err
		}
		if err := f.tool.restore(ipv6, removal(parse(saved))); err != nil {
			return err
		}
	}
	return nil
}
