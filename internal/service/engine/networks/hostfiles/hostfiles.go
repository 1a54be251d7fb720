// Package hostfiles makes what a container's /etc/hosts and /etc/resolv.conf say out of the host's files, the daemon's
// settings and the container's own.
package hostfiles

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"longshore/internal/core/fault"
	"longshore/internal/core/network"
)

// Host is what the host and the daemon say.
type Host struct {
	// ResolvConf is the path of the host's resolv.conf.
	ResolvConf string
	// DNS, DNSSearch and DNSOptions are for containers that have none of their own.
	DNS                   []netip.Addr
	DNSSearch, DNSOptions []string
}

// stubResolv is where systemd-resolved keeps the real servers when /etc/resolv.conf names only itself.
const stubResolv = "/run/systemd/resolve/resolv.conf"

// ResolvFor is the host's resolv.conf with the container's and the daemon's own settings over it; own says whether
// they name servers.
func (h Host) ResolvFor(r network.Request) (conf network.Resolv, own bool) {
	text, err := os.ReadFile(h.ResolvConf)
	if err == nil {
		conf = network.ParseResolv(text)
	}
	if len(conf.Nameservers) == 1 && conf.Nameservers[0] == netip.AddrFrom4([4]byte{127, 0, 0, 53}) {
		if text, err := os.ReadFile(stubResolv); err == nil {
			conf = network.ParseResolv(text)
		}
	}
	servers := h.DNS
	if len(r.DNS) > 0 {
		servers = nil
		for _, d := range r.DNS {
			if a, err := netip.ParseAddr(d); err == nil {
				servers = append(servers, a)
			}
		}
	}
	search, options := h.DNSSearch, h.DNSOptions
	if len(r.DNSSearch) > 0 {
		search = r.DNSSearch
	}
	if len(r.DNSOptions) > 0 {
		options = r.DNSOptions
	}
	return conf.Override(servers, search, options), len(servers) > 0
}

// Extra reads "name:address" and "name=address"; host-gateway stands for the gateways, the host as
// containers reach it.
func (h Host) Extra(extra []string, gateways func() []netip.Addr) ([]network.Host, error) {
	var out []network.Host
	for _, e := range extra {
		name, value, ok := strings.Cut(e, ":")
		if i := strings.IndexByte(e, '='); i >= 0 && (!ok || i < len(name)) {
			name, value, ok = e[:i], e[i+1:], true
		}
		if !ok || name == "" {
			return nil, fault.Invalid("bad format for add-host: %q", e)
		}
		if value == "host-gateway" {
			addrs := gateways()
			if len(addrs) == 0 {
				return nil, fault.Internal("unable to derive the IP value for host-gateway")
			}
			for _, a := range addrs {
				out = append(out, network.Host{Addr: a, Names: name})
			}
			continue
		}
		a, err := netip.ParseAddr(strings.Trim(value, "[]"))
		if err != nil {
			return nil, fault.Invalid("invalid IP address in add-host: %q", value)
		}
		out = append(out, network.Host{Addr: a, Names: name})
	}
	return out, nil
}

// Names joins names for a line of a hosts file, each once.
func Names(names ...string) string {
	var out []string
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return strings.Join(out, " ")
}

// Append adds lines to a hosts file.
func Append(file []byte, lines []network.Host) []byte {
	out := slices.Clone(file)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	for _, l := range lines {
		out = append(out, []byte(l.Addr.String()+"\t"+l.Names+"\n")...)
	}
	return out
}
