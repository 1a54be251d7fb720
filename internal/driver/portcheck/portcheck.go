// Package portcheck finds out who can connect to a port of this host, and why: who listens, which container has it
// published, and which firewall rules of the host drop it. It reads what the kernel and the firewall's own programs tell
// and changes nothing.
package portcheck

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Port is what is asked about.
type Port struct {
	Proto  string // "tcp", "udp" or "sctp"
	Number uint16
}

// Parse reads "8080" or "8080/udp".
func Parse(s string) (Port, error) {
	number, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
		return Port{}, fmt.Errorf("invalid port %q: a number from 1 to 65535, and /tcp, /udp or /sctp", s)
	}
	return Port{Proto: proto, Number: uint16(n)}, nil
}

// String is "8080/tcp".
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Proto) }

// Published is a port that leads to a container.
type Published struct {
	// Host is the host's address, not valid for all of them.
	Host   netip.Addr
	Target netip.AddrPort
}

// Rule is a rule of the host's firewall that decides about the port.
type Rule struct {
	// Where is table and chain; Text the rule as its program shows it.
	Where, Text string
	// Hook is "input", "forward" or "prerouting".
	Hook  string
	Drops bool
}

// Report is what was found.
type Report struct {
	Port      Port
	Listeners []Listener
	Published []Published
	// Rules name the port; Policies are chains that drop whatever nobody allows.
	Rules, Policies []Rule
	// Unread says what could not be looked at.
	Unread []string
}

// Look gathers a report about this host.
func Look(ctx context.Context, p Port) (Report, error) {
	r := Report{Port: p}
	var err error
	if r.Listeners, err = listeners(p); err != nil {
		return r, err
	}
	if text, err := output(ctx, "nft", "list", "ruleset"); err != nil {
		r.Unread = append(r.Unread, "nftables: "+err.Error())
	} else {
		r.addNFT(text)
	}
	for _, program := range []string{"iptables-legacy-save", "ip6tables-legacy-save", "iptables-save", "ip6tables-save"} {
		// Those on nf_tables show what nft has shown already, in their own words: only published ports count there.
		if text, err := output(ctx, program); err == nil {
			r.addIPTables(text, strings.Contains(program, "legacy"))
		}
	}
	return r, nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	return string(out), err
}

// Write tells the report. names are containers' names by address.
func (r Report) Write(w io.Writer, names map[netip.Addr]string) {
	fmt.Fprintf(w, "port %s\n", r.Port)
	for _, l := range r.Listeners {
		fmt.Fprintf(w, "  listens    %s at %s\n", l.Process, netip.AddrPortFrom(l.Addr, r.Port.Number))
	}
	for _, p := range r.Published {
		at := "every address of the host"
		if p.Host.IsValid() {
			at = p.Host.String()
		}
		fmt.Fprintf(w, "  published  %s at %s → %s\n", container(names, p.Target.Addr()), at, p.Target)
	}
	for _, rule := range r.Rules {
		verb := "accepts"
		if rule.Drops {
			verb = "drops"
		}
		fmt.Fprintf(w, "  %-10s %s (%s): %s\n", verb, rule.Where, rule.Hook, rule.Text)
	}
	for _, rule := range r.Policies {
		fmt.Fprintf(w, "  %-10s %s (%s): what no rule of it accepts\n", "drops", rule.Where, rule.Hook)
	}
	for _, u := range r.Unread {
		fmt.Fprintf(w, "  not read   %s\n", u)
	}
	for _, line := range r.Verdict() {
		fmt.Fprintln(w, "  "+line)
	}
}

func container(names map[netip.Addr]string, a netip.Addr) string {
	if name := names[a]; name != "" {
		return "container " + name
	}
	return "a container"
}

// Verdict says who can connect.
func (r Report) Verdict() []string {
	switch {
	case len(r.Published) > 0:
		return r.published()
	case len(r.Listeners) == 0:
		return []string{"nobody can connect: nothing listens and no container has the port published"}
	}
	local := !slices.ContainsFunc(r.Listeners, func(l Listener) bool { return !l.Addr.IsLoopback() })
	if local {
		return []string{"this host can connect; other hosts cannot: only loopback addresses listen"}
	}
	if by := r.dropped("input", "prerouting"); by != "" {
		return []string{"this host can connect; other hosts cannot, or not all: " + by}
	}
	if by := policy(r.Policies, "input"); by != "" && !r.accepted("input") {
		return []string{"this host can connect; other hosts only where a rule accepts them: " + by}
	}
	return []string{"this host and other hosts can connect"}
}

func (r Report) published() []string {
	out := []string{"this host and its containers can connect"}
	outside := slices.ContainsFunc(r.Published, func(p Published) bool { return !p.Host.IsValid() || !p.Host.IsLoopback() })
	switch by := r.dropped("input", "prerouting", "forward"); {
	case !outside:
		out = append(out, "other hosts cannot: it is published at loopback addresses only")
	case by != "":
		out = append(out, "other hosts cannot, or not all: "+by)
	case policy(r.Policies, "forward") != "":
		out = append(out, "other hosts only where a rule accepts them: "+policy(r.Policies, "forward"))
	default:
		out = append(out, "other hosts can connect")
	}
	return out
}

// dropped is the first rule that names the port and drops it in one of the hooks.
func (r Report) dropped(hooks ...string) string {
	for _, rule := range r.Rules {
		if rule.Drops && slices.Contains(hooks, rule.Hook) {
			return rule.Where + ": " + rule.Text
		}
	}
	return ""
}

func (r Report) accepted(hook string) bool {
	return slices.ContainsFunc(r.Rules, func(rule Rule) bool { return !rule.Drops && rule.Hook == hook })
}

func policy(all []Rule, hook string) string {
	for _, rule := range all {
		if rule.Hook == hook {
			return rule.Where + " drops the rest"
		}
	}
	return ""
}
