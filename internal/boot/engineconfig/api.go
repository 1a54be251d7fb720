package engineconfig

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"longshore/internal/core/fault"
)

// Proxies are the proxies of the daemon's own requests, which go before the variables of its environment.
type Proxies struct {
	HTTPProxy  string `json:"http-proxy"`
	HTTPSProxy string `json:"https-proxy"`
	NoProxy    string `json:"no-proxy"`
}

// features are those that dockerd knows; the values true ask for what Longshore does anyway.
var features = []string{"buildkit", "cdi", "containerd-snapshotter", "containerd-migration", "time-namespaces", "windows-dns-proxy"}

func (c *Config) apiFlags(f *pflag.FlagSet) {
	f.BoolVar(&c.TLS, "tls", false, "Use TLS; implied by --tlsverify")
	f.BoolVar(&c.TLSVerify, "tlsverify", os.Getenv("DOCKER_TLS_VERIFY") != "", "Use TLS and verify the remote")
	f.StringVar(&c.TLSCACert, "tlscacert", "", "Trust certs signed only by this CA (default ~/.docker/ca.pem)")
	f.StringVar(&c.TLSCert, "tlscert", "", "Path to TLS certificate file (default ~/.docker/cert.pem)")
	f.StringVar(&c.TLSKey, "tlskey", "", "Path to TLS key file (default ~/.docker/key.pem)")
	f.StringVar(&c.MetricsAddr, "metrics-addr", "", "Set default address and port to serve the metrics api on")
	f.StringVar(&c.MinAPIVersion, "min-api-version", "", "Refuse API versions older than this one")
	f.Var((*featuresValue)(&c.Features), "feature", "Enable feature in the daemon (name or name=false)")
	f.StringVar(&c.HTTPProxy, "http-proxy", "", "HTTP proxy URL to use for outgoing traffic")
	f.StringVar(&c.HTTPSProxy, "https-proxy", "", "HTTPS proxy URL to use for outgoing traffic")
	f.StringVar(&c.NoProxy, "no-proxy", "", "Comma-separated list of hosts or IP addresses for which the proxy is skipped")
	f.StringArrayVar(&c.RequireToken, "require-token", nil, "Refuse callers without a token over this network (tcp, unix)")
}

// settleAPI fills in what follows from other settings.
func (c *Config) settleAPI() {
	c.TLS = c.TLS || c.TLSVerify
	c.MinAPIVersion = cmp.Or(c.MinAPIVersion, os.Getenv("DOCKER_MIN_API_VERSION"))
	if c.TLS {
		dir := os.Getenv("DOCKER_CERT_PATH")
		if dir == "" {
			dir = filepath.Join(os.Getenv("HOME"), ".docker")
		}
		for name, p := range map[string]*string{"ca.pem": &c.TLSCACert, "cert.pem": &c.TLSCert, "key.pem": &c.TLSKey} {
			if *p == "" && (name != "ca.pem" || c.TLSVerify) {
				*p = filepath.Join(dir, name)
			}
		}
	}
	for _, p := range []struct {
		to         *string
		inner, env string
	}{
		{&c.HTTPProxy, c.Proxies.HTTPProxy, "HTTP_PROXY"}, {&c.HTTPSProxy, c.Proxies.HTTPSProxy, "HTTPS_PROXY"}, {&c.NoProxy, c.Proxies.NoProxy, "NO_PROXY"},
	} {
		for _, v := range []string{p.inner, os.Getenv(p.env), os.Getenv(strings.ToLower(p.env))} {
			if *p.to == "" {
				*p.to = v
			}
		}
	}
}

func (c *Config) validateAPI() error {
	if c.MetricsAddr != "" {
		if _, _, err := net.SplitHostPort(c.MetricsAddr); err != nil {
			return fault.Invalid("metrics-addr: %v", err)
		}
	}
	if v := c.MinAPIVersion; v != "" {
		major, minor, ok := strings.Cut(v, ".")
		if n, err := strconv.Atoi(minor); !ok || major != "1" || err != nil || n < 0 || n > 55 {
			return fault.Invalid("min-api-version: %q is not between 1.0 and 1.55", v)
		}
	}
	for name := range c.Features {
		if !slices.Contains(features, name) {
			return fault.Invalid("features: %q is not known (%s)", name, strings.Join(features, ", "))
		}
	}
	if on, set := c.Features["containerd-snapshotter"]; set && !on {
		return fault.Invalid("features: containerd-snapshotter cannot be turned off: Longshore has no other image store")
	}
	for _, n := range c.RequireToken {
		if n != "tcp" && n != "unix" {
			return fault.Invalid("require-token: %q is not a network (tcp, unix)", n)
		}
	}
	return nil
}

type featuresValue map[string]bool

func (v *featuresValue) String() string { return fmt.Sprint(map[string]bool(*v)) }
func (v *featuresValue) Type() string   { return "feature" }

// Set reads "name" and "name=false".
func (v *featuresValue) Set(s string) error {
	name, text, has := strings.Cut(s, "=")
	on := true
	if has {
		var err error
		if on, err = strconv.ParseBool(text); err != nil {
			return fmt.Errorf("invalid boolean value for feature %q: %s", name, text)
		}
	}
	if *v == nil {
		*v = featuresValue{}
	}
	(*v)[name] = on
	return nil
}
