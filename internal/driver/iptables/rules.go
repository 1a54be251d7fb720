package iptables

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"longshore/internal/core/firewall"
)

// chain is one chain of ours as it must be.
type chain struct {
	table, name string
	rules       []string // without "-A name"
}

// line is one rule of one chain of ours.
type line struct{ table, chain, rule string }

// Names of our chains.
const (
	chainPublish = Prefix
	chainPost    = Prefix + "-POST"
	chainHair    = Prefix + "-HAIR"
	chainForward = Prefix + "-FORWARD"
	chainIn      = Prefix + "-IN"
	chainTargets = Prefix + "-TARGETS"
	chainHost    = Prefix + "-HOST"
	chainInput   = Prefix + "-INPUT"
	chainRaw     = Prefix + "-RAW"
)

// jump leads from a chain of the kernel to one of ours.
type jump struct {
	table, from, match, to string
	first                  bool
}

func jumps(ipv6 bool) []jump {
	local := "-m addrtype --dst-type LOCAL"
	pre, output := "! -d 127.0.0.0/8 "+local, local
	if ipv6 {
		// The kernel has no route_localnet here; what is published at ::1 is the port proxy's.
		pre, output = local, "! -d ::1/128 "+local
	}
	all := []jump{
		{"nat", "PREROUTING", pre, chainPublish, false}, {"nat", "OUTPUT", output, chainPublish, false}, {"nat", "POSTROUTING", "", chainPost, false},
		{"mangle", "PREROUTING", local + " -m conntrack --ctstate NEW", chainHost, false},
		{"filter", "FORWARD", "", chainForward, true}, {"filter", "FORWARD", "", AdminChain, true},
	}
	if !ipv6 {
		all = append(all, jump{"raw", "PREROUTING", "", chainRaw, false})
	}
	return all
}

// chains is everything that must be in force for a family.
func (f *Firewall) chains(ipv6 bool, now state) []chain {
	var out []chain
	out = append(out, f.translation(ipv6)...)
	out = append(out, f.filter(ipv6)...)
	host := chain{"mangle", chainHost, nil}
	for _, p := range f.sortedPorts() {
		if p.Target.Addr().Is6() == ipv6 && p.HostPort != 0 {
			host.rules = append(host.rules, hostRule(p))
		}
	}
	out = append(out, host)
	out = append(out, now.mirror()...)
	if !ipv6 {
		raw := chain{"raw", chainRaw, nil}
		for _, n := range f.book.Sorted() {
			raw.rules = append(raw.rules, "-i "+n.Bridge+" -d 127.0.0.0/8 -j DROP")
		}
		out = append(out, raw)
	}
	return out
}

func (f *Firewall) sortedPorts() []firewall.Port {
	// Single addresses first: the first rule that matches translates.
	return slices.SortedFunc(maps.Values(f.book.Ports), func(a, b firewall.Port) int {
		return cmp.Or(-cmp.Compare(specific(a), specific(b)), cmp.Compare(a.HostPort, b.HostPort), a.HostIP.Compare(b.HostIP), a.Target.Compare(b.Target))
	})
}

func specific(p firewall.Port) int {
	if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
		return 1
	}
	return 0
}

// translation is what gives packets other addresses.
func (f *Firewall) translation(ipv6 bool) []chain {
	publish, post, hair := chain{"nat", chainPublish, nil}, chain{"nat", chainPost, nil}, chain{"nat", chainHair, nil}
	for _, p := range f.sortedPorts() {
		if p.Target.Addr().Is6() == ipv6 && p.HostPort != 0 {
			publish.rules = append(publish.rules, publishRule(p))
		}
	}
	if !ipv6 {
		hair.rules = append(hair.rules, "-s 127.0.0.0/8 -j MASQUERADE")
	}
	var leave []string
	for _, n := range f.book.Sorted() {
		post.rules = append(post.rules, "-o "+n.Bridge+" -j "+chainHair, "-o "+n.Bridge+" -j RETURN")
		for _, s := range n.Subnets {
			if s.Addr().Is6() != ipv6 {
				continue
			}
			// A container that reaches another (or itself) through a published port would get the answer from a stranger.
			hair.rules = append(hair.rules, "-s "+s.String()+" -m conntrack --ctstate DNAT -j MASQUERADE")
			switch src := n.Source(ipv6); {
			case !n.Masquerade || n.Internal || n.Mode(ipv6) == firewall.Routed:
			case src.IsValid():
				leave = append(leave, "-s "+s.String()+" -j SNAT --to-source "+src.String())
			default:
				leave = append(leave, "-s "+s.String()+" -j MASQUERADE")
			}
		}
	}
	post.rules = append(post.rules, leave...)
	return []chain{publish, post, hair}
}

// filter is what lets packets into bridges and out of them.
func (f *Firewall) filter(ipv6 bool) []chain {
	forward := chain{"filter", chainForward, nil}
	in := chain{"filter", chainIn, []string{
		"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-m conntrack --ctstate DNAT -j ACCEPT",
	}}
	var cutOff, inwards, outwards []string
	guarded := false
	for _, n := range f.book.Sorted() {
		b := n.Bridge
		if f.cfg.Mask != 0 {
			forward.rules = append(forward.rules, fmt.Sprintf("-o %s -m mark --mark %#x/%#x -j ACCEPT", b, f.cfg.Mark, f.cfg.Mask))
		}
		if !n.Separate {
			forward.rules = append(forward.rules, "-i "+b+" -o "+b+" -j ACCEPT")
		}
		if n.Internal {
			cutOff = append(cutOff, "-i "+b+" -j DROP", "-o "+b+" -j DROP")
		}
		inwards = append(inwards, f.into(n, ipv6)...)
		outwards = append(outwards, "-i "+b+" -j ACCEPT")
		in.rules = append(in.rules, linkRules(n.Links, ipv6)...)
		guarded = guarded || n.Guard(ipv6)
	}
	forward.rules = slices.Concat(forward.rules, cutOff, inwards, outwards)
	if guarded {
		forward.rules = append(forward.rules, "-j DROP")
	}
	targets := chain{"filter", chainTargets, nil}
	for _, t := range f.book.Targets() {
		if t.Addr.Addr().Is6() == ipv6 {
			targets.rules = append(targets.rules, targetRule(t))
		}
	}
	slices.Sort(targets.rules)
	return []chain{forward, in, targets}
}

// into is what may go into a bridge.
func (f *Firewall) into(n firewall.Network, ipv6 bool) []string {
	b, icmp := n.Bridge, "icmp"
	if ipv6 {
		icmp = "ipv6-icmp"
	}
	out := []string{"-o " + b + " -j " + chainIn}
	switch n.Mode(ipv6) {
	case firewall.Unprotected:
		out = append(out, "-o "+b+" -j ACCEPT")
	case firewall.Routed:
		out = append(out, "-o "+b+" -p "+icmp+" -j ACCEPT", "-o "+b+" -j "+chainTargets)
	}
	for _, t := range n.Trusted {
		out = append(out, "-i "+t+" -o "+b+" -j "+chainTargets)
	}
	if f.cfg.AllowDirect {
		out = append(out, "-o "+b+" -j "+chainTargets)
	}
	return append(out, "-o "+b+" -j DROP")
}

func linkRules(links []firewall.Link, ipv6 bool) []string {
	var out []string
	for _, l := range links {
		if l.From.Is6() == ipv6 && l.To.Addr().Is6() == ipv6 {
			out = append(out, "-s "+l.From.String()+" -d "+l.To.Addr().String()+" "+portMatch(l.Proto, l.To.Port())+" -j ACCEPT")
		}
	}
	return out
}

// portMatch matches a destination port.
func portMatch(proto uint8, port uint16) string {
	name := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[proto]
	return "-p " + name + " -m " + name + " --dport " + strconv.Itoa(int(port))
}

func hostMatch(p firewall.Port) string {
	if specific(p) == 0 {
		return portMatch(p.Proto, p.HostPort)
	}
	return "-d " + p.HostIP.String() + " " + portMatch(p.Proto, p.HostPort)
}

func publishRule(p firewall.Port) string {
	return hostMatch(p) + " -j DNAT --to-destination " + netip.AddrPortFrom(p.Target.Addr(), p.Target.Port()).String()
}

func hostRule(p firewall.Port) string { return hostMatch(p) + " -j " + chainInput }

func targetRule(t firewall.Target) string {
	return "-d " + t.Addr.Addr().String() + " " + portMatch(t.Proto, t.Addr.Port()) + " -j ACCEPT"
}

// portLines are the rules of ports, and of those targets that come or go with them.
func (f *Firewall) portLines(ipv6 bool, ports, targets []firewall.Port) []line {
	var out []line
	for _, p := range ports {
		if p.Target.Addr().Is6() == ipv6 && p.HostPort != 0 {
			out = append(out, line{"nat", chainPublish, publishRule(p)}, line{"mangle", chainHost, hostRule(p)})
		}
	}
	for _, p := range targets {
		if p.Target.Addr().Is6() == ipv6 {
			out = append(out, line{"filter", chainTargets, targetRule(firewall.Target{Proto: p.Proto, Addr: p.Target})})
		}
	}
	return out
}

// edits is a text that adds or deletes lines. Rules for single addresses go to the beginning.
func edits(do string, lines []line) string {
	var b strings.Builder
	for _, table := range []string{"filter", "mangle", "nat"} {
		b.WriteString("*" + table + "\n")
		for _, l := range lines {
			if l.table != table {
				continue
			}
			verb := do
			if do == "-A" && strings.HasPrefix(l.rule, "-d ") {
				verb = "-I"
			}
			b.WriteString(verb + " " + l.chain + " " + l.rule + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// render is a text that makes our chains exactly these, with the jumps that are missing.
func render(all []chain, now state, ipv6 bool) string {
	var b strings.Builder
	for _, table := range []string{"raw", "mangle", "filter", "nat"} {
		b.WriteString("*" + table + "\n")
		names := map[string]bool{}
		for _, c := range all {
			if c.table == table {
				names[c.name] = true
				b.WriteString(":" + c.name + " - [0:0]\n")
			}
		}
		if table == "filter" && !now.has("filter", AdminChain) {
			b.WriteString(":" + AdminChain + " - [0:0]\n")
		}
		for _, c := range all {
			for _, r := range c.rules {
				if c.table == table {
					b.WriteString("-A " + c.name + " " + r + "\n")
				}
			}
		}
		// The administrator's chain comes before ours: where ours is inserted anew, so is that.
		again := table == "filter" && !now.ordered()
		if again && now.jumps(jump{table: "filter", from: "FORWARD", to: AdminChain}) {
			b.WriteString("-D FORWARD -j " + AdminChain + "\n")
		}
		for _, j := range jumps(ipv6) {
			if j.table == table && (!now.jumps(j) || again && j.to == AdminChain) {
				verb := "-A "
				if j.first {
					verb = "-I "
				}
				b.WriteString(strings.Join(strings.Fields(verb+j.from+" "+j.match+" -j "+j.to), " ") + "\n")
			}
		}
		for _, stale := range now.ours(table) {
			if !names[stale] {
				b.WriteString("-F " + stale + "\n-X " + stale + "\n")
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}
