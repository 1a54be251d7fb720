package authzplugin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Places are the directories where plugins are looked for; empty ones are docker's.
type Places struct {
	// Sockets holds NAME.sock or NAME/NAME.sock.
	Sockets string
	// Specs hold NAME.spec (an address) or NAME.json (an address and TLS files), each also below NAME/.
	Specs []string
}

// description is a NAME.json.
type description struct {
	Addr      string
	TLSConfig *struct {
		InsecureSkipVerify        bool
		CAFile, CertFile, KeyFile string
	}
}

// find looks for a plugin's address: a socket first, then a description.
func (l Places) find(name string) (*Plugin, error) {
	if l.Sockets == "" {
		l.Sockets = "/run/docker/plugins"
	}
	if l.Specs == nil {
		l.Specs = []string{"/etc/docker/plugins", "/usr/lib/docker/plugins"}
	}
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return nil, notFound(name)
	}
	for _, path := range paths(l.Sockets, name, ".sock") {
		if fi, err := os.Stat(path); err == nil && fi.Mode()&fs.ModeSocket != 0 {
			return dial(name, description{Addr: "unix://" + path})
		}
	}
	for _, dir := range l.Specs {
		for _, path := range append(paths(dir, name, ".spec"), paths(dir, name, ".json")...) {
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("plugin %q: %w", name, err)
			}
			d := description{Addr: strings.TrimSpace(string(text))}
			if strings.HasSuffix(path, ".json") {
				d = description{}
				if err := json.Unmarshal(text, &d); err != nil {
					return nil, fmt.Errorf("plugin %q: %s: %w", name, path, err)
				}
			}
			return dial(name, d)
		}
	}
	return nil, notFound(name)
}

func paths(dir, name, ext string) []string {
	return []string{filepath.Join(dir, name+ext), filepath.Join(dir, name, name+ext)}
}

// dial prepares the client for an address: unix:///path, tcp://host:port, http:// or https://.
func dial(name string, d description) (*Plugin, error) {
	u, err := url.Parse(d.Addr)
	if err != nil {
		return nil, fmt.Errorf("plugin %q: address: %w", name, err)
	}
	t := &http.Transport{MaxIdleConnsPerHost: 16}
	p := &Plugin{name: name, client: &http.Client{Transport: t}}
	scheme := "http"
	if c := d.TLSConfig; c != nil {
		if t.TLSClientConfig, err = tlsConfig(c.CAFile, c.CertFile, c.KeyFile); err != nil {
			return nil, fmt.Errorf("plugin %q: %w", name, err)
		}
		t.TLSClientConfig.InsecureSkipVerify = c.InsecureSkipVerify || c.CAFile == "" //nolint:gosec // docker's rule
		scheme = "https"
	}
	switch u.Scheme {
	case "unix":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
		}
		p.base = "http://plugin.moby.localhost"
	case "tcp", "http", "https":
		if u.Scheme == "https" {
			scheme = "https"
		}
		if u.Scheme == "http" {
			scheme = "http"
		}
		p.base = scheme + "://" + u.Host
	default:
		return nil, fmt.Errorf("plugin %q: unknown protocol in address %q", name, d.Addr)
	}
	return p, nil
}

func tlsConfig(ca, cert, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
