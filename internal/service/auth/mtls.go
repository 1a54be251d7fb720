package auth

import (
	"crypto/x509"
	"fmt"
	"regexp"
	"strings"
)

// MTLSConfig says how a client certificate becomes a user's name.
type MTLSConfig struct {
	// Attributes are tried in order: CommonName (CN), Subject (DN), Email (rfc822name), URI (URL), DNSName (DNS), in any
	// case. Empty is CommonName.
	Attributes []string
	// URIPattern picks the name out of a URI with its first group; empty takes the whole URI.
	URIPattern string
	// The indexes choose among several names of a kind.
	URIIndex, DNSIndex, EmailIndex int
}

type identity struct {
	cfg     MTLSConfig
	pattern *regexp.Regexp
}

func newIdentity(cfg MTLSConfig) (*identity, error) {
	i := &identity{cfg: cfg}
	if len(cfg.Attributes) == 0 {
		i.cfg.Attributes = []string{"CommonName"}
	}
	if cfg.URIPattern != "" {
		re, err := regexp.Compile(cfg.URIPattern)
		if err != nil {
			return nil, fmt.Errorf("client certificates: %w", err)
		}
		i.pattern = re
	}
	return i, nil
}

// of is the name in a certificate.
func (i *identity) of(c *x509.Certificate) (string, error) {
	for _, a := range i.cfg.Attributes {
		if name := i.attribute(strings.ToLower(strings.TrimSpace(a)), c); name != "" {
			return name, nil
		}
	}
	return "", fmt.Errorf("the client certificate holds no name: %w", ErrCredentials)
}

func (i *identity) attribute(a string, c *x509.Certificate) string {
	switch a {
	case "commonname", "cn":
		return c.Subject.CommonName
	case "subject", "dn":
		return c.Subject.String()
	case "email", "rfc822name":
		return at(c.EmailAddresses, i.cfg.EmailIndex)
	case "dnsname", "dns":
		return at(c.DNSNames, i.cfg.DNSIndex)
	case "uri", "url":
		return i.uri(c)
	}
	return ""
}

func (i *identity) uri(c *x509.Certificate) string {
	if i.cfg.URIIndex < 0 || i.cfg.URIIndex >= len(c.URIs) {
		return ""
	}
	text := c.URIs[i.cfg.URIIndex].String()
	if i.pattern == nil {
		return text
	}
	m := i.pattern.FindStringSubmatch(text)
	switch {
	case m == nil:
		return ""
	case len(m) > 1:
		return m[1]
	}
	return m[0]
}

func at(list []string, i int) string {
	if i < 0 || i >= len(list) {
		return ""
	}
	return list[i]
}
