package registryclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/moby/moby/api/types/registry"
	"github.com/sirupsen/logrus"

	"longshore/internal/core/fault"
)

// endpoint is one way to reach a registry.
type endpoint struct {
	base  url.URL // scheme and host, and a mirror's path
	root  string  // the path of the API: "/v2", or what hosts.toml says
	plain bool    // may speak HTTP where it does not speak HTTPS
	home  bool    // the registry itself: gets the client's credentials
	can   docker.HostCapabilities
	// of hosts.toml
	header    http.Header
	namespace string // the registry that a mirror of several stands for
	transport http.RoundTripper
}

const everything = docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush

// url is an address of the registry. path begins with "/v2/", or with "/v1/" for what is older.
func (e endpoint) url(path string) string {
	u := e.base
	if rest, ok := strings.CutPrefix(path, "/v2/"); ok {
		u.Path = strings.TrimSuffix(e.root, "/") + "/" + rest
	} else {
		u.Path += path
	}
	if e.namespace != "" {
		u.RawQuery = url.Values{"ns": {e.namespace}}.Encode()
	}
	return u.String()
}

func isHub(domain string) bool {
	return domain == hubName || domain == "index.docker.io" || domain == hubHost
}

// endpoints are the ways to reach a registry, best first: the mirrors of Docker Hub that the settings name, then those of
// the host's hosts.toml, then the registry itself. auth tells which of them is the client's; it may be nil.
func (c *Client) endpoints(ctx context.Context, domain string, auth *registry.AuthConfig) ([]endpoint, error) {
	var out []endpoint
	if isHub(domain) {
		domain = hubName
		for _, m := range c.Config().Mirrors {
			u, err := url.Parse(strings.TrimSuffix(m, "/"))
			if err != nil {
				return nil, fault.Invalid("invalid mirror %q: %w", m, err)
			}
			e := endpoint{base: *u, root: u.Path + "/v2", can: docker.HostCapabilityPull | docker.HostCapabilityResolve}
			if e.transport, err = c.transport(u.Host, !c.Insecure(ctx, u.Host)); err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	list, err := c.described(ctx, domain, auth)
	if err != nil {
		return nil, err
	}
	if list == nil {
		e, err := c.upstream(ctx, domain)
		if err != nil {
			return nil, err
		}
		list = []endpoint{e}
	}
	return append(out, list...), nil
}

// upstream is the registry itself.
func (c *Client) upstream(ctx context.Context, domain string) (e endpoint, err error) {
	host, insecure := hubHost, false
	if !isHub(domain) {
		host, insecure = domain, c.Insecure(ctx, domain)
	}
	e = endpoint{base: url.URL{Scheme: "https", Host: host}, root: "/v2", plain: insecure, home: true, can: everything}
	e.transport, err = c.transport(host, !insecure)
	return e, err
}

// described are the endpoints that a host's hosts.toml names; nil without such a file. What else the settings say of their
// hosts, certificates in docker's way and insecure registries, holds as well.
func (c *Client) described(ctx context.Context, domain string, auth *registry.AuthConfig) ([]endpoint, error) {
	hosts, err := c.hosts(ctx, domain)
	if err != nil || hosts == nil {
		return nil, err
	}
	itself := domain
	if isHub(domain) {
		itself = hubHost
	}
	out := []endpoint{}
	for i, h := range hosts {
		e := endpoint{
			base: url.URL{Scheme: h.Scheme, Host: h.Host}, root: h.Path, can: h.Capabilities, header: h.Header, transport: h.Client.Transport,
			home: h.Host == itself || auth != nil && h.Host == serverHost(auth.ServerAddress),
		}
		if !e.home && i < len(hosts)-1 {
			e.namespace = domain
		}
		insecure := c.Insecure(ctx, h.Host)
		e.plain = insecure && h.Host == itself && h.Scheme == "https"
		if tr, ok := e.transport.(*http.Transport); ok {
			tr = tr.Clone() // the library may share it among the hosts
			tr.TLSClientConfig.InsecureSkipVerify = tr.TLSClientConfig.InsecureSkipVerify || insecure
			if err := c.certificates(tr.TLSClientConfig, h.Host); err != nil {
				return nil, err
			}
			e.transport = tr
		}
		out = append(out, e)
	}
	return out, nil
}

// serverHost is the host of credentials' server address; empty when it has none.
func serverHost(address string) string {
	if address == IndexServer {
		return hubHost
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// BuildHosts gives what a registry's hosts.toml says in containerd's form, for the builder: mirrors first; nil without such a
// file.
func (c *Client) BuildHosts(ctx context.Context, domain string) ([]docker.RegistryHost, error) {
	list, err := c.described(ctx, domain, nil)
	if err != nil || list == nil {
		return nil, err
	}
	out := make([]docker.RegistryHost, len(list))
	for i, e := range list {
		if e.plain {
			e.transport = docker.NewHTTPFallback(e.transport)
		}
		out[i] = docker.RegistryHost{
			Client: &http.Client{Transport: e.transport}, Scheme: e.base.Scheme, Host: e.base.Host, Path: e.root, Capabilities: e.can, Header: e.header,
		}
	}
	return out, nil
}

// hosts reads a registry's hosts.toml below the directory of certificates; nil without such a file. A file that cannot be
// understood is an error.
func (c *Client) hosts(ctx context.Context, domain string) ([]docker.RegistryHost, error) {
	if c.Config().CertsDir == "" {
		return nil, nil
	}
	find := config.HostDirFromRoot(c.Config().CertsDir)
	dir, err := find(domain)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for settings of registry %s: %w", domain, err)
	}
	file := filepath.Join(dir, "hosts.toml")
	if fi, err := os.Stat(file); errors.Is(err, os.ErrNotExist) || err == nil && fi.Size() == 0 {
		return nil, nil
	}
	// The library logs what it cannot read, and goes on as if there were no file.
	var complaint bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&complaint)
	logger.SetLevel(logrus.ErrorLevel)
	ctx = log.WithLogger(ctx, logrus.NewEntry(logger))
	hosts, err := config.ConfigureHosts(ctx, config.HostOptions{
		HostDir: func(string) (string, error) { return dir, nil },
		UpdateClient: func(client *http.Client) error {
			if tr, ok := client.Transport.(*http.Transport); ok {
				tr.MaxIdleConnsPerHost, tr.ForceAttemptHTTP2 = 16, true
				tr.ResponseHeaderTimeout = headerTimeout
			}
			return nil
		},
	})(domain)
	if err != nil {
		return nil, fault.Internal("%s: %w", file, err)
	}
	if complaint.Len() > 0 {
		return nil, fault.Internal("%s: %s", file, strings.TrimSpace(complaint.String()))
	}
	return hosts, nil
}

// headerTimeout bounds how long a registry may think.
const headerTimeout = 2 * time.Minute

// transport makes the connections to one host.
func (c *Client) transport(host string, verify bool) (http.RoundTripper, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !verify} //nolint:gosec // asked for by the user
	if err := c.certificates(conf, host); err != nil {
		return nil, err
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: headerTimeout,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
		TLSClientConfig:       conf,
		ForceAttemptHTTP2:     true,
	}, nil
}

// certificates reads docker's certificate directory of a host.
func (c *Client) certificates(conf *tls.Config, host string) error {
	if c.Config().CertsDir == "" {
		return nil
	}
	dir := filepath.Join(c.Config().CertsDir, filepath.Base(host))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch filepath.Ext(name) {
		case ".crt":
			if err := addAuthority(conf, name); err != nil {
				return err
			}
		case ".cert":
			key := strings.TrimSuffix(name, ".cert") + ".key"
			if _, err := os.Stat(key); errors.Is(err, os.ErrNotExist) {
				return fault.Invalid("missing key %s for client certificate %s. CA certificates must use the extension .crt", filepath.Base(key), filepath.Base(name))
			}
			cert, err := tls.LoadX509KeyPair(name, key)
			if err != nil {
				return fmt.Errorf("client certificate %s: %w", filepath.Base(name), err)
			}
			conf.Certificates = append(conf.Certificates, cert)
		case ".key":
			cert := strings.TrimSuffix(name, ".key") + ".cert"
			if _, err := os.Stat(cert); errors.Is(err, os.ErrNotExist) {
				return fault.Invalid("missing client certificate %s for key %s", filepath.Base(cert), filepath.Base(name))
			}
		}
	}
	return nil
}

func addAuthority(conf *tls.Config, name string) (err error) {
	if conf.RootCAs == nil {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			return fmt.Errorf("unable to get system cert pool: %w", err)
		}
	}
	pem, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	conf.RootCAs.AppendCertsFromPEM(pem)
	return nil
}
