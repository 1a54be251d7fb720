// Package registryclient talks to v2 registries (OCI distribution 1.1 and Docker's before it): manifests, blobs, tags
// and uploads, with Basic and Bearer authentication, identity and refresh tokens, insecure registries and mirrors. It tries each
// thing once; Passing tells whether to try again, and when.
//
//	repo, err := client.Repository(ctx, ref, credentials, registryclient.Pull)
//	desc, body, err := repo.Manifest(ctx, "latest")
//
// A Client is shared and lives as long as the engine; a Repository lives for one operation and holds its tokens.
// Whether a host speaks HTTPS or HTTP is found out once per Repository.
package registryclient

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"

	"longshore/internal/core/fault"
)

const (
	hubName = "docker.io"
	hubHost = "registry-1.docker.io"
	// IndexServer is the key and server address of Docker Hub's credentials.
	IndexServer = "https://index.docker.io/v1/"
	// clientID is what docker calls itself to OAuth2 token services.
	clientID = "docker"
)

// Config holds the client's settings.
type Config struct {
	// Insecure lists hosts (with port, if any) and networks in CIDR notation whose certificates are not checked and
	// that may speak plain HTTP. Loopback addresses always may.
	Insecure []string
	// Mirrors are URLs asked before Docker Hub.
	Mirrors []string
	// CertsDir holds a directory per host: containerd's hosts.toml, or docker's certificates (*.crt, *.cert with *.key). Empty: none.
	CertsDir string
	// UserAgent goes into each request.
	UserAgent string
	// Index is the host, with port, that answers searches that name none; empty is Docker Hub. It may speak plain HTTP.
	Index string
}

// Validate checks settings and tells the first that is wrong.
func (c Config) Validate() error {
	for _, s := range c.Insecure {
		if strings.Contains(s, "://") {
			return fault.Invalid("insecure registry %s should not contain '://'", s)
		}
	}
	for _, m := range c.Mirrors {
		u, err := url.Parse(m)
		if err != nil {
			return fault.Invalid("invalid mirror: %q is not a valid URI: %w", m, err)
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			return fault.Invalid("invalid mirror: no scheme specified for %q: must use either 'https://' or 'http://'", m)
		}
		if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return fault.Invalid("invalid mirror: query, fragment or user in the URI %q", u.Redacted())
		}
	}
	return nil
}

// Client talks to registries. It is safe for concurrent use.
type Client struct{ current atomic.Pointer[settings] }

// settings are a configuration that was looked through.
type settings struct {
	cfg      Config
	networks []netip.Prefix
	hosts    map[string]bool
}

// New checks the settings.
func New(cfg Config) (*Client, error) {
	c := &Client{}
	return c, c.Reconfigure(cfg)
}

// Reconfigure checks other settings and lets what begins from now on use them.
func (c *Client) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "longshore"
	}
	s := &settings{cfg: cfg, hosts: map[string]bool{}}
	if cfg.Index != "" {
		s.hosts[cfg.Index] = true
	}
	for _, name := range append([]string{"127.0.0.0/8", "::1/128"}, cfg.Insecure...) {
		if p, err := netip.ParsePrefix(name); err == nil {
			s.networks = append(s.networks, p)
		} else {
			s.hosts[name] = true
		}
	}
	c.current.Store(s)
	return nil
}

// Config is what is in force.
func (c *Client) Config() Config { return c.current.Load().cfg }

// Insecure tells whether a registry may be spoken to without verified TLS.
func (c *Client) Insecure(ctx context.Context, host string) bool {
	if c.current.Load().hosts[host] {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if c.current.Load().hosts[name] || name == "localhost" {
		return true
	}
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(name); err == nil {
		addrs = append(addrs, a)
	} else if len(c.current.Load().networks) > 2 { // names are looked up only when networks beside loopback are configured
		addrs, _ = net.DefaultResolver.LookupNetIP(ctx, "ip", name) //nolint:errcheck // unknown: not insecure
	}
	for _, a := range addrs {
		for _, p := range c.current.Load().networks {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
	}
	return false
}

// Action is what a Repository is opened for; it decides the rights that are asked for.
type Action string

// The actions of the token protocol.
const (
	Pull Action = "pull"
	Push Action = "pull,push"
)

// Repository is a repository on a registry, reached with somebody's credentials. Close it after use.
type Repository struct {
	*session
	// Path is the repository's name on the registry: "library/busybox".
	Path   string
	action Action
}

// Repositories gives the ways to reach ref's repository: mirrors first, each only if it may be used for the action. Each is to be
// tried until one works; none has been contacted yet.
func (c *Client) Repositories(ctx context.Context, ref reference.Named, auth *registry.AuthConfig, action Action) ([]*Repository, error) {
	list, err := c.endpoints(ctx, reference.Domain(ref), auth)
	if err != nil {
		return nil, err
	}
	var out []*Repository
	for _, e := range list {
		if action == Push && !e.can.Has(docker.HostCapabilityPush) {
			continue
		}
		creds := auth
		if !e.home {
			creds = nil // never shown to others than the registry they belong to
		}
		path := reference.Path(ref)
		s := c.session(e, creds)
		s.scope = "repository:" + path + ":" + string(action)
		out = append(out, &Repository{session: s, Path: path, action: action})
	}
	if len(out) == 0 {
		return nil, fault.Invalid("no host of registry %s may be used to %s", reference.Domain(ref), map[Action]string{Pull: "pull", Push: "push"}[action])
	}
	return out, nil
}

// Repository connects to ref's repository: the first way that answers at all is taken.
func (c *Client) Repository(ctx context.Context, ref reference.Named, auth *registry.AuthConfig, action Action) (*Repository, error) {
	list, err := c.Repositories(ctx, ref, auth, action)
	if err != nil {
		return nil, err
	}
	var last error
	for i, r := range list {
		if last = r.Ping(ctx); last == nil {
			for _, other := range append(list[:i:i], list[i+1:]...) {
				other.Close()
			}
			return r, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	for _, r := range list {
		r.Close()
	}
	return nil, last
}

// session begins a conversation; nothing is sent yet.
func (c *Client) session(e endpoint, auth *registry.AuthConfig) *session {
	s := &session{client: c, endpoint: e, auth: auth, tokens: map[string]token{}}
	s.http = &http.Client{Transport: e.transport, CheckRedirect: s.redirect}
	return s
}
