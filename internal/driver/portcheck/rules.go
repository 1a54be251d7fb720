package portcheck

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Names that are ours: the engine's own tables and chains are told as published ports, not as the host's rules.
const (
	ourTable  = "longshore"
	ourPrefix = "LONGSHORE"
)

// addNFT reads `nft list ruleset`.
func (r *Report) addNFT(text string) {
	var table, chain string
	hooks := map[string]string{} // of chains by table and name; those that are jumped to have their caller's
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		f := strings.Fields(line)
		switch {
		case len(f) == 4 && f[0] == "table" && f[3] == "{":
			table, chain = f[1]+" "+f[2], ""
		case len(f) == 3 && (f[0] == "chain" || f[0] == "map" || f[0] == "set") && f[2] == "{":
			chain = f[0] + " " + f[1]
		case isOurs(table):
			r.published4(line, chain)
		case strings.HasPrefix(line, "type ") && strings.Contains(line, " hook "):
			hooks[table+" "+chain] = word(line, "hook")
			if strings.HasSuffix(line, "policy drop;") {
				r.Policies = append(r.Policies, Rule{Where: table + " " + chain, Hook: hooks[table+" "+chain], Drops: true})
			}
		case strings.HasPrefix(chain, "chain "):
			hook := hooks[table+" "+chain]
			for _, verb := range []string{"jump", "goto"} {
				if to := word(line, verb); to != "" && hook != "" {
					hooks[table+" chain "+to] = hook
				}
			}
			r.rule(table+" "+chain, orInput(hook), line)
		}
	}
}

func isOurs(table string) bool { return table == "ip "+ourTable || table == "ip6 "+ourTable }

// orInput stands for chains that come before those that jump to them in the listing.
func orInput(hook string) string {
	if hook == "" {
		return "input"
	}
	return hook
}

// word is the word after another.
func word(line, after string) string {
	f := strings.Fields(line)
	if i := slices.Index(f, after); i >= 0 && i+1 < len(f) {
		return strings.TrimSuffix(f[i+1], ";")
	}
	return ""
}

// rule enters a rule that names the port and decides.
func (r *Report) rule(where, hook, line string) {
	f := strings.Fields(line)
	drops := slices.Contains(f, "drop") || slices.Contains(f, "reject")
	if !drops && !slices.Contains(f, "accept") || !matches(line, r.Port) {
		return
	}
	r.Rules = append(r.Rules, Rule{Where: where, Text: line, Hook: hook, Drops: drops})
}

// matches says whether a rule of nft names the port: "tcp dport 80", "th dport { 80, 443 }", "tcp dport 8000-9000".
func matches(line string, p Port) bool {
	for _, key := range []string{p.Proto + " dport ", "th dport ", "ct original proto-dst "} {
		_, rest, ok := strings.Cut(line, key)
		if !ok {
			continue
		}
		not := strings.HasPrefix(rest, "!= ")
		rest = strings.TrimPrefix(rest, "!= ")
		if list, _, ok := strings.Cut(strings.TrimPrefix(rest, "{"), "}"); ok && strings.HasPrefix(rest, "{") {
			rest = list
		} else {
			rest, _, _ = strings.Cut(rest, " ")
		}
		return inList(rest, "-", p.Number) != not
	}
	return false
}

// inList says whether a list of ports and ranges has one.
func inList(list, dash string, port uint16) bool {
	for _, item := range strings.Split(list, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(item), dash)
		a, err := strconv.ParseUint(lo, 10, 16)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.ParseUint(hi, 10, 16); err != nil {
				continue
			}
		}
		if a <= uint64(port) && uint64(port) <= b {
			return true
		}
	}
	return false
}

// published4 reads elements of our maps: "tcp . 8080 : 172.17.0.2 . 80" and "tcp . 127.0.0.1 . 8080 : …".
func (r *Report) published4(line, chain string) {
	if chain != "map published" && chain != "map published_addr" {
		return
	}
	line = strings.TrimSuffix(strings.TrimPrefix(line, "elements = {"), "}")
	for _, element := range strings.Split(line, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(element), " : ")
		k, v := strings.Split(key, " . "), strings.Split(strings.TrimSpace(value), " . ")
		if !ok || len(v) != 2 || k[0] != r.Port.Proto || k[len(k)-1] != strconv.Itoa(int(r.Port.Number)) {
			continue
		}
		p := Published{}
		if len(k) == 3 {
			p.Host, _ = netip.ParseAddr(k[1])
		}
		addr, err := netip.ParseAddr(v[0])
		port, err2 := strconv.ParseUint(v[1], 10, 16)
		if err == nil && err2 == nil {
			p.Target = netip.AddrPortFrom(addr, uint16(port))
			r.Published = append(r.Published, p)
		}
	}
}

// addIPTables reads what iptables-save says: published ports, and the host's rules when those count.
func (r *Report) addIPTables(text string, rules bool) {
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "*") {
			table = line[1:]
		}
		f := strings.Fields(line)
		if rules && table == "filter" && len(f) > 1 && f[1] == "DROP" && strings.HasPrefix(line, ":") {
			if hook, ok := builtin[f[0][1:]]; ok {
				r.Policies = append(r.Policies, Rule{Where: "iptables " + f[0][1:], Hook: hook, Drops: true})
			}
		}
		if len(f) < 3 || f[0] != "-A" || !r.iptablesPort(f) {
			continue
		}
		to := after(f, "-j")
		switch {
		case f[1] == ourPrefix && to == "DNAT":
			r.iptablesPublished(f)
		case strings.HasPrefix(f[1], ourPrefix) || !rules:
		case to == "DROP" || to == "REJECT" || to == "ACCEPT":
			hook, ok := builtin[f[1]]
			if !ok {
				hook = "input"
			}
			r.Rules = append(r.Rules, Rule{Where: "iptables " + table + " " + f[1], Text: line, Hook: hook, Drops: to != "ACCEPT"})
		}
	}
}

var builtin = map[string]string{"INPUT": "input", "FORWARD": "forward", "PREROUTING": "prerouting", "DOCKER-USER": "forward"}

func after(f []string, key string) string {
	if i := slices.Index(f, key); i >= 0 && i+1 < len(f) {
		return f[i+1]
	}
	return ""
}

// iptablesPort says whether a rule names the port.
func (r *Report) iptablesPort(f []string) bool {
	if p := after(f, "-p"); p != "" && p != r.Port.Proto {
		return false
	}
	for _, key := range []string{"--dport", "--dports", "--ctorigdstport"} {
		if list := after(f, key); list != "" {
			return inList(list, ":", r.Port.Number)
		}
	}
	return false
}

func (r *Report) iptablesPublished(f []string) {
	to, err := netip.ParseAddrPort(after(f, "--to-destination"))
	if err != nil {
		return
	}
	p := Published{Target: to}
	if d, err := netip.ParsePrefix(after(f, "-d")); err == nil {
		p.Host = d.Addr()
	}
	if !slices.Contains(r.Published, p) {
		r.Published = append(r.Published, p)
	}
}
