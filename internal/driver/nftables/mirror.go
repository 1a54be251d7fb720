package nftables

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// A packet for a published port is forwarded, so that it never meets the host's input chains: what an administrator
// dropped there ("tcp dport 8080 drop", a banned address) would be open for containers. The mirror copies such rules to
// a place that those packets do pass, before translation, where ports and addresses are still the host's:
//
//	chain host_0 { type filter hook prerouting priority -110 }   new connections to published ports → host_0_0
//	chain host_0_0                                               a copy of one base chain of the input hook
//
// Copied are rules that accept (what is accepted first is not dropped later), and rules that drop or reject and name a
// port or a source address. A rule that drops all the rest, like the chain's policy, is not: it says what the host
// itself serves, and a published port is asked for by name. What is not understood ends the copy of its chain.

// mirror is what was copied.
type mirror struct {
	chains []copied
	notes  []string // rules that were not understood
}

// copied is one chain: a base chain's when base is set.
type copied struct {
	name  string
	base  bool
	rules [][]expr.Any
	sets  []copiedSet
	v4    bool
	v6    bool
}

type copiedSet struct {
	set      *nft.Set
	elements []nft.SetElement
}

func (m mirror) same(o mirror) bool { return reflect.DeepEqual(m, o) }

// limits of what is copied: beyond them a host's rules are taken for no hand-written ones.
const (
	maxDepth = 16
	maxRules = 4000
)

// copier reads the host's rules.
type copier struct {
	c      *nft.Conn
	whole  map[ruleID]int // number of expressions per rule
	chains map[chainID]*nft.Chain
	out    mirror
	rules  int
	sets   int
	subs   int
}

type chainID struct {
	family nft.TableFamily
	table  string
	name   string
}

// reflect reads the host's input chains. The caller holds mu.
func (f *Firewall) reflect() (mirror, error) {
	c, err := nft.New(nft.AsLasting())
	if err != nil {
		return mirror{}, fmt.Errorf("nftables: %w", err)
	}
	defer func() { _ = c.CloseLasting() }()
	all, err := c.ListChains()
	if err != nil {
		return mirror{}, fmt.Errorf("nftables: list chains: %w", err)
	}
	cp := &copier{c: c, chains: map[chainID]*nft.Chain{}}
	var bases []*nft.Chain
	for _, ch := range all {
		if ch.Table.Name == Table || ch.Table.Name == AdminTable {
			continue
		}
		cp.chains[chainID{ch.Table.Family, ch.Table.Name, ch.Name}] = ch
		if isInput(ch) {
			bases = append(bases, ch)
		}
	}
	if len(bases) == 0 {
		return mirror{}, nil
	}
	if cp.whole, err = expressions(); err != nil {
		return mirror{}, err
	}
	slices.SortFunc(bases, func(a, b *nft.Chain) int {
		return cmp.Or(cmp.Compare(*a.Priority, *b.Priority), cmp.Compare(a.Table.Family, b.Table.Family), cmp.Compare(a.Table.Name, b.Table.Name))
	})
	for i, ch := range bases {
		if err := cp.base(fmt.Sprintf("host_%d", i), ch); err != nil {
			return mirror{}, err
		}
	}
	return cp.out, nil
}

func isInput(c *nft.Chain) bool {
	if c.Type != nft.ChainTypeFilter || c.Hooknum == nil || *c.Hooknum != *nft.ChainHookInput || c.Priority == nil {
		return false
	}
	switch c.Table.Family {
	case nft.TableFamilyIPv4, nft.TableFamilyIPv6, nft.TableFamilyINet:
		return true
	}
	return false
}

// base copies one base chain, when there is anything in it that drops.
func (cp *copier) base(name string, ch *nft.Chain) error {
	before := len(cp.out.chains)
	sub, drops, err := cp.chain(ch, way{prefix: name})
	if err != nil {
		return err
	}
	if !drops {
		cp.out.chains = cp.out.chains[:before]
		return nil
	}
	jump := &expr.Verdict{Kind: expr.VerdictJump, Chain: sub}
	cp.out.chains = append(cp.out.chains, cp.of(ch, copied{name: name, base: true, rules: [][]expr.Any{{jump}}}))
	return nil
}

// of marks a copy with the families of its original.
func (cp *copier) of(ch *nft.Chain, c copied) copied {
	c.v4, c.v6 = ch.Table.Family != nft.TableFamilyIPv6, ch.Table.Family != nft.TableFamilyIPv4
	return c
}

// way is how a chain was come to. named says that the way named a port or an address.
type way struct {
	named  bool
	depth  int
	prefix string // of the copies' names
}

// chain copies a chain and those it jumps to, each jump's target anew, since what of it counts depends on the way to it.
func (cp *copier) chain(ch *nft.Chain, w way) (name string, drops bool, err error) {
	name = fmt.Sprintf("%s_%d", w.prefix, cp.subs)
	cp.subs++
	rules, err := cp.c.GetRules(ch.Table, ch)
	if err != nil {
		return "", false, fmt.Errorf("nftables: list rules of %s: %w", ch.Name, err)
	}
	out := cp.of(ch, copied{name: name})
	for _, r := range rules {
		if cp.rules++; cp.rules > maxRules || w.depth > maxDepth {
			break
		}
		step := cp.rule(ch, r, w)
		if step.err != nil {
			return "", false, step.err
		}
		if step.lost {
			cp.out.notes = append(cp.out.notes, fmt.Sprintf("%s %s rule %d", ch.Table.Name, ch.Name, r.Handle))
			break
		}
		if step.exprs != nil {
			out.rules, out.sets = append(out.rules, step.exprs), append(out.sets, step.sets...)
			drops = drops || step.drops
		}
	}
	cp.out.chains = append(cp.out.chains, out)
	return name, drops, nil
}

// step is a copied rule: nothing when it needs no copy, lost when it was not understood.
type step struct {
	exprs []expr.Any
	sets  []copiedSet
	drops bool
	lost  bool
	err   error
}

// rule copies one rule.
func (cp *copier) rule(ch *nft.Chain, r *nft.Rule, w way) step {
	var s step
	understood := cp.whole[ruleID{ch.Table.Family, ch.Table.Name, r.Handle}] == len(r.Exprs)
	var end *expr.Verdict
	for _, e := range r.Exprs {
		v, keep, ok := cp.expression(e)
		understood = understood && ok
		if v != nil {
			end = v
		}
		if keep {
			s.exprs = append(s.exprs, e)
		}
		w.named = w.named || names(e)
	}
	lookups := slices.ContainsFunc(s.exprs, func(e expr.Any) bool { l, ok := e.(*expr.Lookup); return ok && l.IsDestRegSet })
	switch {
	case lookups:
		return step{lost: true} // verdict maps
	case end == nil:
		return step{} // it only counts, logs or marks
	case !understood:
		return step{lost: end.Kind == expr.VerdictAccept || end.Kind == expr.VerdictReturn || end.Kind == expr.VerdictJump || end.Kind == expr.VerdictGoto}
	case end.Kind == expr.VerdictDrop && !w.named:
		return step{}
	}
	if !cp.multiports(&s) {
		return step{lost: true}
	}
	if s.err = cp.copySets(ch.Table, &s); s.err != nil {
		return s
	}
	return cp.finish(ch, s, end, w)
}

// finish gives a copied rule its verdict, following jumps.
func (cp *copier) finish(ch *nft.Chain, s step, end *expr.Verdict, w way) step {
	switch end.Kind {
	case expr.VerdictDrop:
		s.drops = true
	case expr.VerdictJump, expr.VerdictGoto:
		to := cp.chains[chainID{ch.Table.Family, ch.Table.Name, end.Chain}]
		if to == nil {
			return step{lost: true}
		}
		var sub string
		if sub, s.drops, s.err = cp.chain(to, way{w.named, w.depth + 1, w.prefix}); s.err != nil {
			return s
		}
		end = &expr.Verdict{Kind: end.Kind, Chain: sub}
	}
	s.exprs = append(s.exprs, end)
	return s
}

// expression judges a part of a rule: the verdict that it is, whether the copy has it, and whether it is understood.
func (cp *copier) expression(e expr.Any) (end *expr.Verdict, keep, understood bool) {
	switch e := e.(type) {
	case *expr.Verdict:
		return e, false, true
	case *expr.Reject:
		return &expr.Verdict{Kind: expr.VerdictDrop}, false, true
	case *expr.Target:
		switch e.Name {
		case "REJECT":
			return &expr.Verdict{Kind: expr.VerdictDrop}, false, true
		case "LOG", "NFLOG":
			return nil, false, true
		}
		return nil, false, false
	case *expr.Counter, *expr.Log:
		return nil, false, true
	case *expr.Payload:
		return nil, true, e.OperationType == expr.PayloadLoad
	case *expr.Meta:
		return nil, true, !e.SourceRegister
	case *expr.Ct:
		return nil, true, !e.SourceRegister
	case *expr.Match:
		return nil, true, slices.Contains(matches, e.Name)
	case *expr.Cmp, *expr.Bitwise, *expr.Lookup, *expr.Range, *expr.Immediate, *expr.Fib, *expr.Exthdr, *expr.Limit, *expr.Byteorder:
		return nil, true, true
	}
	return nil, false, false
}

// matches are those of iptables-nft's extensions that can be copied as they are; multiport is said in nftables' own words.
var matches = []string{
	"tcp", "udp", "udplite", "sctp", "conntrack", "state", "addrtype", "comment", "iprange", "mark", "mac", "pkttype", "limit", "set", "multiport",
}

// names says whether a part of a rule looks at the destination port or the source address.
func names(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Payload:
		if e.Base == expr.PayloadBaseTransportHeader {
			return e.Offset <= 2 && e.Offset+e.Len >= 4
		}
		return e.Base == expr.PayloadBaseNetworkHeader && (e.Len == 4 && e.Offset == 12 || e.Len == 16 && e.Offset == 8 || e.Len < 4 && e.Offset == 12)
	case *expr.Match:
		switch info := e.Info.(type) {
		case *xt.Tcp:
			return info.DstPorts != [2]uint16{0, 0xffff}
		case *xt.Udp:
			return info.DstPorts != [2]uint16{0, 0xffff}
		}
		return slices.Contains([]string{"multiport", "set", "iprange", "sctp"}, e.Name)
	}
	return false
}

// copySets copies the sets that a rule looks into, and makes it look into the copies.
func (cp *copier) copySets(t *nft.Table, s *step) error {
	for i, e := range s.exprs {
		l, ok := e.(*expr.Lookup)
		if !ok || slices.ContainsFunc(s.sets, func(c copiedSet) bool { return c.set.Name == l.SetName }) {
			continue
		}
		set, err := cp.c.GetSetByName(t, l.SetName)
		if err != nil {
			return fmt.Errorf("nftables: set %s: %w", l.SetName, err)
		}
		elements, err := cp.c.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("nftables: elements of set %s: %w", l.SetName, err)
		}
		for j := range elements {
			elements[j].Timeout, elements[j].Expires = 0, 0
		}
		mine := &nft.Set{
			Name: cp.setName(), KeyType: set.KeyType, Interval: set.Interval, Concatenation: set.Concatenation,
			KeyByteOrder: set.KeyByteOrder,
		}
		look := *l
		look.SetName, look.SetID = mine.Name, 0
		s.exprs[i] = &look
		s.sets = append(s.sets, copiedSet{mine, elements})
	}
	return nil
}

// install adds the copies for a family to the transaction that makes its table.
func (m mirror) install(f family, r rules) error {
	hook := int32(0)
	for _, ch := range m.chains {
		if f.v6 && !ch.v6 || !f.v6 && !ch.v4 {
			continue
		}
		for _, s := range ch.sets {
			mine := *s.set
			mine.Table, mine.ID = f.table, 0
			if err := r.c.AddSet(&mine, nil); err != nil {
				return err
			}
			if err := inChunks(&mine, s.elements, r.c.SetAddElements); err != nil {
				return err
			}
		}
		if ch.base {
			f.guard(r, ch, hook)
			hook++
			continue
		}
		to := r.c.AddChain(&nft.Chain{Name: ch.name, Table: f.table})
		for _, exprs := range ch.rules {
			r.add(to, exprs)
		}
	}
	return nil
}

// hostPriority is that of copied base chains: after connection tracking, before translation.
const hostPriority = -110

// guard makes the chain that leads new connections to published ports into a copy.
func (f family) guard(r rules, ch copied, nth int32) {
	base := r.base(ch.name, nft.ChainTypeFilter, nft.ChainHookPrerouting, hostPriority+min(nth, 9))
	r.add(base, established(), verdict(expr.VerdictAccept))
	r.add(base, toHost(), f.found(f.publishedAddr, true), ch.rules[0])
	r.add(base, toHost(), f.found(f.published, false), ch.rules[0])
}

// ruleID names a rule of the host.
type ruleID struct {
	family nft.TableFamily
	table  string
	handle uint64
}

// nfgenmsgLen is the length of the header before a message's attributes.
const nfgenmsgLen = 4
