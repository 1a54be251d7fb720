package registryconfig

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (h *HTTP) check(k *checker) {
	if p, err := strconv.Atoi(h.Port); err != nil || p < 0 || p > 65535 {
		k.fail(key("http", "port"), "%q is no port", h.Port)
	}
	if h.TLS != nil && (h.TLS.Cert == "" || h.TLS.Key == "") {
		k.fail(key("http", "tls"), "needs cert and key")
	}
	if h.ExternalURL != "" {
		if u, err := url.Parse(h.ExternalURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			k.fail(key("http", "externalUrl"), "%q is no URL", h.ExternalURL)
		}
	}
	if h.ReadTimeout < 0 || h.WriteTimeout < 0 {
		k.fail("http", "timeouts must not be negative")
	}
	for _, c := range h.Compat {
		if c != "docker2s2" {
			k.fail(key("http", "compat"), "%q is not known; docker2s2 is", c)
		}
	}
	h.checkRates(k)
	h.checkAuth(k)
	h.checkAccess(k)
}

func (h *HTTP) checkRates(k *checker) {
	if h.Ratelimit == nil {
		return
	}
	if h.Ratelimit.Rate != nil && *h.Ratelimit.Rate < 1 {
		k.fail(key("http", "ratelimit", "rate"), "must be at least 1")
	}
	for _, m := range h.Ratelimit.Methods {
		if m.Method == "" || m.Rate < 1 {
			k.fail(key("http", "ratelimit", "methods"), "each needs a method and a rate of at least 1")
		}
	}
}

func (h *HTTP) checkAuth(k *checker) {
	a := h.Auth
	if a == nil {
		return
	}
	if a.FailDelay < 0 || a.FailDelay > 60 {
		k.fail(key("http", "auth", "failDelay"), "must be between 0 and 60 seconds")
	}
	if b := a.Bearer; b != nil && (b.Realm == "" || b.Service == "" || b.Cert == "") {
		k.fail(key("http", "auth", "bearer"), "needs realm, service and cert")
	}
	if s := a.SessionDriver; s != nil {
		switch strings.ToLower(s.Name) {
		case "", "local":
		case "redis":
			k.fail(key("http", "auth", "sessionDriver", "name"), "%q is not supported: sessions live in the index", s.Name)
		default:
			k.fail(key("http", "auth", "sessionDriver", "name"), "%q is no session driver", s.Name)
		}
	}
	h.checkMTLS(k)
	h.checkTokens(k)
}

// checkTokens looks at accounts and at our own token server.
func (h *HTTP) checkTokens(k *checker) {
	a := h.Auth
	if h.TLS == nil && !strings.HasPrefix(h.ExternalURL, "https://") && !h.loopback() {
		const clear = "passwords and tokens travel in the clear: set http.tls, or http.externalUrl to what terminates TLS"
		if a.Accounts != nil {
			k.warn(key("http", "auth", "accounts"), clear)
		}
		if a.Token != nil {
			k.warn(key("http", "auth", "token"), clear)
		}
	}
	t := a.Token
	if t == nil {
		return
	}
	at := func(name string) string { return key("http", "auth", "token", name) }
	if a.Bearer != nil {
		k.fail(key("http", "auth", "token"), "cannot be beside http.auth.bearer: there is one token server")
	}
	if t.Expiry < time.Minute || t.Expiry > 24*time.Hour {
		k.fail(at("expiry"), "must be between 1m and 24h")
	}
	if t.RotateAfter < time.Hour {
		k.fail(at("rotateAfter"), "must be at least 1h")
	}
	if u, err := url.Parse(t.Realm); t.Realm != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		k.fail(at("realm"), "%q is no URL", t.Realm)
	}
}

func (h *HTTP) loopback() bool {
	ip, err := netip.ParseAddr(h.Address)
	return h.Address == "localhost" || err == nil && ip.IsLoopback()
}

var identityAttributes = []string{"commonname", "cn", "subject", "dn", "email", "rfc822name", "uri", "url", "dnsname", "dns"}

func (h *HTTP) checkMTLS(k *checker) {
	m := h.Auth.MTLS
	if m == nil {
		return
	}
	if h.TLS == nil || h.TLS.CACert == "" {
		k.fail(key("http", "auth", "mtls"), "needs http.tls.cacert")
	}
	for _, a := range m.IdentityAttributes {
		if !slices.Contains(identityAttributes, strings.ToLower(strings.TrimSpace(a))) {
			k.fail(key("http", "auth", "mtls", "identityAttributes"), "%q is no identity attribute", a)
		}
	}
	if _, err := regexp.Compile(m.URISANPattern); err != nil {
		k.fail(key("http", "auth", "mtls", "uriSanPattern"), "%v", err)
	}
	if m.URISANIndex < 0 || m.DNSSANIndex < 0 || m.EmailSANIndex < 0 {
		k.fail(key("http", "auth", "mtls"), "indexes must not be negative")
	}
}

var actions = []string{"read", "create", "update", "delete", "detectManifestCollision"}

func (h *HTTP) checkAccess(k *checker) {
	a := h.AccessControl
	if a == nil {
		return
	}
	at := key("http", "accessControl")
	if !h.identifies() && !a.onlyAnonymous() {
		k.fail(at, "needs http.auth (htpasswd, accounts, bearer or client certificates), or nothing but anonymousPolicy")
	}
	named := func(at string, list []string) {
		for _, action := range list {
			if !slices.Contains(actions, action) {
				k.fail(at, "%q is no action", action)
			}
		}
	}
	named(key("http", "accessControl", "adminPolicy"), a.AdminPolicy.Actions)
	if len(a.AdminPolicy.Conditions) > 0 {
		k.fail(key("http", "accessControl", "adminPolicy"), "takes no conditions")
	}
	named(key("http", "accessControl", "metrics"), a.Metrics.AnonymousPolicy)
	for _, pattern := range sorted(a.Repositories) {
		g, at := a.Repositories[pattern], key("http", "accessControl", "repositories", pattern)
		if g == nil {
			k.fail(at, "must be an object")
			continue
		}
		named(at, g.DefaultPolicy)
		named(at, g.AnonymousPolicy)
		for _, p := range g.Policies {
			named(at, p.Actions)
		}
	}
}

// identifies says whether anybody can have a name.
func (h *HTTP) identifies() bool {
	return h.Auth != nil && (h.Auth.HTPasswd.Path != "" || h.Auth.Bearer != nil || h.Auth.Accounts != nil) || h.TLS != nil && h.TLS.CACert != ""
}

func (a *AccessControl) onlyAnonymous() bool {
	if len(a.AdminPolicy.Actions)+len(a.AdminPolicy.Users)+len(a.Metrics.Users) > 0 {
		return false
	}
	for _, g := range a.Repositories {
		if g != nil && (len(g.DefaultPolicy) > 0 || len(g.Policies) > 0) {
			return false
		}
	}
	return true
}
