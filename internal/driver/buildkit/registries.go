package buildkit

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/buildkit/util/resolver/config"
)

// Registries say how registries are reached: the engine's settings of the same names.
type Registries struct {
	// Insecure are hosts, with port, and address ranges that are spoken to without a trusted certificate or in plain HTTP.
	Insecure []string
	// Mirrors of Docker Hub are asked first.
	Mirrors []string
	// CertsDir holds a directory per registry with certificates.
	CertsDir string
	// Described gives what a registry's hosts.toml says, nil without one; may be nil.
	Described func(host string) ([]docker.RegistryHost, error)
}

// hosts answers how one registry is reached. It is worked out anew each time: certificates may have changed.
func (r Registries) hosts(host string) ([]docker.RegistryHost, error) {
	var described []docker.RegistryHost
	if r.Described != nil {
		var err error
		if described, err = r.Described(host); err != nil {
			return nil, err
		}
	}
	list, err := r.configured(host)
	if err != nil || described == nil {
		return list, err
	}
	return append(list[:len(list)-1], described...), nil // the last is the registry itself, in both
}

// configured are the ways that the settings name.
func (r Registries) configured(host string) ([]docker.RegistryHost, error) {
	known := map[string]config.RegistryConfig{}
	r.know(known, host)
	if host == "docker.io" {
		hub := known[host]
		for _, m := range r.Mirrors {
			addr, plain := strings.CutPrefix(m, "http://")
			addr = strings.TrimSuffix(strings.TrimPrefix(addr, "https://"), "/")
			name, _, _ := strings.Cut(addr, "/")
			r.know(known, name)
			if c := known[name]; plain && c.PlainHTTP == nil {
				c.PlainHTTP = &plain
				known[name] = c
			}
			hub.Mirrors = append(hub.Mirrors, addr)
		}
		known[host] = hub
	}
	return resolver.NewRegistryConfig(known)(host)
}

func (r Registries) know(known map[string]config.RegistryConfig, host string) {
	var c config.RegistryConfig
	if r.CertsDir != "" {
		c.TLSConfigDir = []string{filepath.Join(r.CertsDir, host)}
	}
	if r.insecure(host) {
		yes := true
		c.Insecure, c.PlainHTTP = &yes, &yes
	}
	known[host] = c
}

// insecure tells whether a registry is named so, lies in a range named so, or is on this host.
func (r Registries) insecure(host string) bool {
	if slices.Contains(r.Insecure, host) {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(name); err == nil {
		addrs = append(addrs, a)
	} else if found, err := r.lookup(name); err == nil {
		for _, f := range found {
			if a, err := netip.ParseAddr(f); err == nil {
				addrs = append(addrs, a)
			}
		}
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return a.IsLoopback() || slices.ContainsFunc(r.Insecure, func(text string) bool {
			p, err := netip.ParsePrefix(text)
			return err == nil && p.Contains(a.Unmap())
		})
	})
}

// lookup asks for a name's addresses only where they matter: a host without DNS must not wait for it.
func (r Registries) lookup(name string) ([]string, error) {
	ranges := slices.ContainsFunc(r.Insecure, func(text string) bool {
		_, err := netip.ParsePrefix(text)
		return err == nil
	})
	if !ranges && name != "localhost" {
		return nil, nil
	}
	return net.LookupHost(name)
}
