package resolver

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// ttl of our answers in seconds, as docker's.
const ttl = 600

// handler answers the questions of one namespace.
type handler struct {
	id      atomic.Pointer[string] // of the container; nil before one is put into the namespace
	table   *table
	forward func(ctx context.Context, s Sandbox, q *dns.Msg, network string) (*dns.Msg, error)
	ctx     context.Context //nolint:containedctx // dns.Handler has no context; this is the server's life
}

// ServeDNS implements dns.Handler.
func (h *handler) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	reply := h.answer(w, q)
	if reply == nil {
		return
	}
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply) // the client asks again when it is not answered
}

func (h *handler) answer(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 {
		return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
	}
	id := h.id.Load()
	if id == nil {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	if reply := h.own(*id, q); reply != nil {
		return reply
	}
	s, ok := h.table.sandbox(*id)
	if !ok {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	reply, err := h.forward(h.ctx, s, q, w.RemoteAddr().Network())
	if err != nil {
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	return reply
}

// own answers what containers are called; nil when the question is not about one.
func (h *handler) own(id string, q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	if question.Qclass != dns.ClassINET {
		return nil
	}
	if question.Qtype == dns.TypePTR {
		return h.pointer(id, q, question.Name)
	}
	found := h.table.lookup(id, question.Name)
	if len(found) == 0 {
		return nil
	}
	reply := ours(q)
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
	for _, e := range found {
		switch {
		case question.Qtype == dns.TypeA && e.IPv4.IsValid():
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: net.IP(e.IPv4.AsSlice())})
		case question.Qtype == dns.TypeAAAA && e.IPv6.IsValid():
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: net.IP(e.IPv6.AsSlice())})
		}
	}
	return reply // without an address of that kind: the name exists, and has none
}

func (h *handler) pointer(id string, q *dns.Msg, name string) *dns.Msg {
	a, ok := addrOf(name)
	if !ok {
		return nil
	}
	host, ok := h.table.reverse(id, a)
	if !ok {
		return nil
	}
	reply := ours(q)
	header := dns.RR_Header{Name: name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}
	reply.Answer = []dns.RR{&dns.PTR{Hdr: header, Ptr: dns.Fqdn(host)}}
	return reply
}

func ours(q *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(q)
	reply.RecursionAvailable = true
	return reply
}

// addrOf reads the name of a reverse question: 2.0.17.172.in-addr.arpa. or nibbles under ip6.arpa.
func addrOf(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		p := strings.Split(s, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa.")
	p := strings.Split(s, ".")
	if !ok || len(p) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, nibble := range p {
		n, err := strconv.ParseUint(nibble, 16, 4)
		if err != nil {
			return netip.Addr{}, false
		}
		at := 31 - i
		b[at/2] |= byte(n) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b), true
}
