package engineboot

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/registry"
	api "github.com/moby/moby/api/types/system"

	"longshore/internal/boot/engineconfig"
	corenet "longshore/internal/core/network"
)

// addressPools are the configured pools, or the built-in ones.
func addressPools(configured []engineconfig.AddressPool, builtIn []corenet.AddressPool) []api.NetworkAddressPool {
	var out []api.NetworkAddressPool
	for _, p := range configured {
		out = append(out, api.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	if out != nil {
		return out
	}
	for _, p := range builtIn {
		out = append(out, api.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	return out
}

// apiWarnings are about addresses of the network at which anybody may call the API.
func apiWarnings(c *engineconfig.Config) (out []string) {
	for _, host := range c.Hosts {
		proto, addr, ok := strings.Cut(host, "://")
		if !ok {
			proto, addr = "tcp", host
		}
		where := ""
		switch {
		case proto != "tcp":
		case !c.TLS && !c.TLSVerify:
			where = "http://" + addr + " without encryption"
		case !c.TLSVerify && !slices.Contains(c.RequireToken, "tcp"):
			where = "https://" + addr + " without TLS client verification"
		}
		if where != "" {
			out = append(out, "WARNING: API is accessible on "+where+".\n         Access to the remote API is equivalent to root access on the host.")
		}
	}
	return out
}

// registries tells which registries are asked how; Docker Hub and loopback addresses are always there.
func registries(insecure, mirrors []string) *registry.ServiceConfig {
	told := make([]string, 0, len(mirrors))
	for _, m := range mirrors { // with a slash at the end, as dockerd tells them
		told = append(told, strings.TrimSuffix(m, "/")+"/")
	}
	c := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")},
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: told, Secure: true, Official: true},
		},
		Mirrors: told,
	}
	for _, name := range insecure {
		if p, err := netip.ParsePrefix(name); err == nil {
			c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, p)
			continue
		}
		c.IndexConfigs[name] = &registry.IndexInfo{Name: name, Mirrors: []string{}}
	}
	return c
}
