package listener

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
)

// TLS reads the daemon's certificate and key; with ca, clients must have a certificate that it signed.
func TLS(cert, key, ca string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate %s and key %s: %w", cert, key, err)
	}
	// HTTP/1.1 only: attach and exec take connections over.
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	if ca == "" {
		return c, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c, nil
}

// secured puts TLS before what is no unix socket.
func secured(ls []net.Listener, c *tls.Config) []net.Listener {
	if c == nil {
		return ls
	}
	for i, l := range ls {
		if l != nil && l.Addr().Network() != "unix" {
			ls[i] = tls.NewListener(l, c)
		}
	}
	return ls
}
