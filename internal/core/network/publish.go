package network

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"

	"longshore/internal/core/fault"
)

// Publication is a wish to publish one container port: on one host port out of [First, Last], or on any when both
// are 0.
type Publication struct {
	Port        network.Port
	HostIP      netip.Addr // not valid: every address of the host
	First, Last uint16
}

// Publications lists what a request wants published, ordered by container port, protocol and wish.
func Publications(r Request) ([]Publication, error) {
	var out []Publication
	for port, bindings := range r.Bindings {
		if port.Num() == 0 || !port.IsValid() {
			return nil, fault.Invalid("invalid port: %s", port)
		}
		switch port.Proto() {
		case network.TCP, network.UDP, network.SCTP:
		default:
			return nil, fault.Invalid("invalid proto: %s", port.Proto())
		}
		if len(bindings) == 0 {
			out = append(out, Publication{Port: port})
		}
		for _, b := range bindings {
			p := Publication{Port: port, HostIP: b.HostIP.Unmap()}
			var err error
			if p.First, p.Last, err = hostPorts(b.HostPort); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	if r.PublishAll {
		for port := range r.Exposed {
			if _, ok := r.Bindings[port]; !ok && port.Num() != 0 {
				out = append(out, Publication{Port: port})
			}
		}
	}
	slices.SortStableFunc(out, comparePublications)
	return out, nil
}

// ExposedPorts lists what a container exposes, published or not.
func ExposedPorts(r *Request) []network.Port {
	var out []network.Port
	for p := range r.Exposed {
		out = append(out, p)
	}
	for p := range r.Bindings {
		if _, ok := r.Exposed[p]; !ok {
			out = append(out, p)
		}
	}
	return out
}

func comparePublications(a, b Publication) int {
	if c := int(a.Port.Num()) - int(b.Port.Num()); c != 0 {
		return c
	}
	if c := strings.Compare(string(a.Port.Proto()), string(b.Port.Proto())); c != 0 {
		return c
	}
	// Fixed ports first, so that no range or ephemeral choice takes one away.
	if c := int(b.First) - int(a.First); c != 0 && (a.First == 0 || b.First == 0) {
		return c
	}
	return a.HostIP.Compare(b.HostIP)
}

// hostPorts reads "", "8080" or "8000-8010".
func hostPorts(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	lo, hi, isRange := strings.Cut(s, "-")
	if !isRange {
		hi = lo
	}
	a, err1 := strconv.ParseUint(lo, 10, 16)
	b, err2 := strconv.ParseUint(hi, 10, 16)
	if err1 != nil || err2 != nil || b < a || (a == 0 && b != 0) {
		return 0, 0, fault.Invalid("invalid port specification: %q", s)
	}
	return uint16(a), uint16(b), nil
}
