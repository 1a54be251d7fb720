package registryboot

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"longshore/internal/boot/registryconfig"
)

// certificates are those of the server, and the authority of its clients', read again when their files change.
type certificates struct {
	files   registryconfig.TLS
	clients bool
	current atomic.Pointer[tls.Config]
	stamp   stamp
}

func loadCertificates(files registryconfig.TLS, clients bool) (*certificates, error) {
	c := &certificates{files: files, clients: clients}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	return c, nil
}

func (c *certificates) load() error {
	s := stampOf(c.files.Cert, c.files.Key, c.files.CACert)
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if c.clients {
		data, err := os.ReadFile(c.files.CACert)
		if err != nil {
			return err
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(data) {
			return errors.New("cacert holds no certificate")
		}
		// Who shows none is nobody, and access control decides what nobody may do: without any policy, nothing.
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	c.current.Store(cfg)
	c.stamp = s
	return nil
}

// refresh reads the files again if they have changed; a half-written pair leaves things as they were, until it is whole.
func (c *certificates) refresh() (changed bool, err error) {
	if stampOf(c.files.Cert, c.files.Key, c.files.CACert) == c.stamp {
		return false, nil
	}
	return true, c.load()
}

// tls wraps a listener when TLS is configured. A new certificate holds for the connections that come after.
func (r *Registry) tls(l net.Listener) net.Listener {
	if r.certs == nil {
		return l
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.certs.current.Load(), nil },
	})
}

// stamp tells whether files have changed since it was taken.
type stamp [3]fileStamp

type fileStamp struct {
	size    int64
	changed time.Time
}

func stampOf(paths ...string) (s stamp) {
	for i, p := range paths {
		if p == "" {
			continue
		}
		if info, err := os.Stat(p); err == nil {
			s[i] = fileStamp{info.Size(), info.ModTime()}
		}
	}
	return s
}
