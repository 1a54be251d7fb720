package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// state is what iptables-save tells: per table, the rules of each chain.
type state struct {
	tables map[string]map[string][]string // table → chain → rules without "-A chain"
}

// parse reads iptables-save's text. Lines that it does not know mean nothing to it.
func parse(text string) state {
	s := state{tables: map[string]map[string][]string{}}
	var table map[string][]string
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		switch {
		case strings.HasPrefix(l, "*"):
			table = map[string][]string{}
			s.tables[l[1:]] = table
		case table == nil:
		case strings.HasPrefix(l, ":"):
			name, _, _ := strings.Cut(l[1:], " ")
			table[name] = table[name]
		case strings.HasPrefix(l, "-A "):
			name, rule, _ := strings.Cut(l[3:], " ")
			table[name] = append(table[name], rule)
		}
	}
	return s
}

func (s state) has(table, chain string) bool {
	_, ok := s.tables[table][chain]
	return ok
}

// jumps says whether a jump is there; nothing but ours jumps to our chains.
func (s state) jumps(j jump) bool {
	return slices.ContainsFunc(s.tables[j.table][j.from], func(rule string) bool { return strings.HasSuffix(" "+rule, " -j "+j.to) })
}

// ordered says whether packets pass the administrator's chain before ours.
func (s state) ordered() bool {
	at := func(to string) int {
		return slices.IndexFunc(s.tables["filter"]["FORWARD"], func(rule string) bool { return strings.HasSuffix(" "+rule, " -j "+to) })
	}
	admin, ours := at(AdminChain), at(chainForward)
	return admin >= 0 && ours >= 0 && admin < ours
}

// ours lists our chains in a table.
func (s state) ours(table string) []string {
	var out []string
	for name := range s.tables[table] {
		if name == Prefix || strings.HasPrefix(name, Prefix+"-") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// intact says whether our chains are as they were written, as far as their lengths tell, and all jumps are there.
func (s state) intact(was seen, ipv6 bool) bool {
	for key, n := range was.counts {
		table, name, _ := strings.Cut(key, " ")
		if !s.has(table, name) || len(s.tables[table][name]) != n {
			return false
		}
	}
	for _, j := range jumps(ipv6) {
		if !s.jumps(j) {
			return false
		}
	}
	return s.ordered()
}

// removal is a text that removes our chains and the jumps to them.
func removal(s state) string {
	var b strings.Builder
	for _, table := range []string{"raw", "mangle", "nat", "filter"} {
		ours := s.ours(table)
		if len(ours) == 0 {
			continue
		}
		b.WriteString("*" + table + "\n")
		for from, rules := range s.tables[table] {
			if slices.Contains(ours, from) {
				continue
			}
			for _, r := range rules {
				if slices.ContainsFunc(ours, func(to string) bool { return strings.HasSuffix(" "+r, " -j "+to) }) {
					b.WriteString("-D " + from + " " + r + "\n")
				}
			}
		}
		for _, c := range ours {
			b.WriteString("-F " + c + "\n")
		}
		for _, c := range ours {
			b.WriteString("-X " + c + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// host is the host's own input rules, for comparison.
func (s state) host() string {
	var b strings.Builder
	for _, c := range s.mirror() {
		b.WriteString(c.name + "\n" + strings.Join(c.rules, "\n") + "\n")
	}
	return b.String()
}

// A packet for a published port is forwarded, so that it never meets the host's INPUT chain: what an administrator dropped
// there would be open for containers. mirror copies INPUT to a chain that new connections to published ports pass before
// translation. Copied are rules that accept, and rules that drop or reject and name a port or a source address; a rule
// that drops all the rest, like the chain's policy, says what the host itself serves and is not. Targets that decide
// nothing are left out.
func (s state) mirror() []chain {
	m := &mirror{from: s.tables["filter"]}
	m.copy("INPUT", chainInput, false, 0)
	if !m.drops {
		return []chain{{"mangle", chainInput, nil}}
	}
	return m.out
}

type mirror struct {
	from  map[string][]string
	out   []chain
	drops bool
}

// maxDepth and maxChains bound what is copied.
const (
	maxDepth  = 16
	maxChains = 500
)

// copy copies a chain and those that it jumps to, anew for each jump.
func (m *mirror) copy(name, as string, named bool, depth int) {
	at := len(m.out)
	m.out = append(m.out, chain{"mangle", as, nil})
	if depth > maxDepth || len(m.out) > maxChains {
		return
	}
	for _, rule := range m.from[name] {
		match, verb, to := split(rule)
		named := named || names(match)
		switch {
		case to == "ACCEPT" || to == "RETURN":
			m.out[at].rules = append(m.out[at].rules, strings.TrimSpace(match+" -j "+to))
		case to == "DROP" || to == "REJECT":
			if named {
				m.drops = true
				m.out[at].rules = append(m.out[at].rules, strings.TrimSpace(match+" -j DROP"))
			}
		case m.from[to] != nil && !strings.HasPrefix(to, Prefix):
			sub := fmt.Sprintf("%s-%d", chainInput, len(m.out))
			m.copy(to, sub, named, depth+1)
			m.out[at].rules = append(m.out[at].rules, strings.TrimSpace(match+" "+verb+" "+sub))
		}
	}
}

// split takes a rule apart: its conditions, -j or -g, and where that leads.
func split(rule string) (match, verb, to string) {
	quoted := false
	for i := 0; i < len(rule); i++ {
		switch {
		case rule[i] == '\\' && quoted:
			i++
		case rule[i] == '"':
			quoted = !quoted
		case !quoted && (i == 0 || rule[i-1] == ' ') && (strings.HasPrefix(rule[i:], "-j ") || strings.HasPrefix(rule[i:], "-g ")):
			to, _, _ := strings.Cut(rule[i+3:], " ")
			return strings.TrimSpace(rule[:i]), rule[i : i+2], to
		}
	}
	return rule, "", ""
}

// names says whether conditions look at the destination port or the source address.
func names(match string) bool {
	for _, field := range strings.Fields(match) {
		switch field {
		case "-s", "--dport", "--dports", "--ports", "--match-set", "--src-range":
			return true
		}
	}
	return false
}
