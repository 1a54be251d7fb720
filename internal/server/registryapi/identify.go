package registryapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"longshore/internal/core/distribution"
	"longshore/internal/service/auth"
)

// Zot's marks of its web interface. A foreign page cannot send the header without being asked first (CORS), which is
// what keeps cookies from being used behind a user's back.
const (
	clientHeader  = "X-Zot-Api-Client"
	clientUI      = "zot-ui"
	sessionCookie = "session"
	userCookie    = "user"
)

func fromUI(r *http.Request) bool { return r.Header.Get(clientHeader) == clientUI }

// identify finds out who asks. The metrics, mgmt and the documents of the API decide for themselves about the nameless.
func (s *Server) identify(x *exchange) error {
	c := auth.Credentials{Authorization: x.r.Header.Get("Authorization"), Address: x.r.RemoteAddr}
	if fromUI(x.r) && c.Authorization == "" && x.set.origins.sameSite(x.r) {
		if cookie, err := x.r.Cookie(sessionCookie); err == nil {
			c.Cookie = cookie.Value
		}
	}
	if x.r.TLS != nil && len(x.r.TLS.VerifiedChains) > 0 {
		c.Certificates = x.r.TLS.VerifiedChains[0]
	}
	who, err := s.auth.Authenticate(x.r.Context(), c)
	if err != nil {
		if c.Cookie != "" {
			x.clearCookies()
			if x.op == opLogin || x.op == opLogout || x.op == opMgmt {
				who, err = s.auth.Authenticate(x.r.Context(), auth.Credentials{})
			}
		}
		if err != nil {
			if errors.Is(err, auth.ErrCredentials) {
				wait(x.r.Context(), s.auth.FailDelay())
			}
			return err
		}
	}
	x.who = who
	return nil
}

// authorize asks whether the subject may do something with the exchange's repository.
func (s *Server) authorize(x *exchange, action auth.Action, reference string) error {
	return s.auth.Authorize(x.who, s.query(x, action, reference))
}

func (s *Server) query(x *exchange, action auth.Action, reference string) auth.Query {
	q := auth.Query{Action: action, Repo: string(x.repo), Reference: reference}
	if s.auth.Conditional() {
		q.Facts = x.facts()
	}
	return q
}

// readable is the predicate for lists and mounts; nil is everything.
func (s *Server) readable(x *exchange) func(distribution.RepoName) bool {
	return predicate(s.auth.Readable(x.who, s.query(x, auth.Read, "")))
}

func predicate(may func(string) bool) func(distribution.RepoName) bool {
	if may == nil {
		return nil
	}
	return func(name distribution.RepoName) bool { return may(string(name)) }
}

// challenge tells how to log in: the token server with the scope that is missing, or a password. The web interface is
// not told, so that browsers show no window of their own.
func (s *Server) challenge(x *exchange, err error) {
	if fromUI(x.r) {
		return
	}
	m := s.auth.Methods()
	h := x.Header()
	if m.Bearer != nil {
		text := fmt.Sprintf(`Bearer realm=%s,service=%s`, quote(x.realm(m.Bearer)), quote(m.Bearer.Service))
		if scope := x.scope(); scope != "" {
			text += ",scope=" + quote(scope)
		}
		var narrow *auth.InsufficientScope
		if errors.As(err, &narrow) {
			text += `,error="insufficient_scope"`
		} else if x.r.Header.Get("Authorization") != "" {
			text += `,error="invalid_token"`
		}
		h.Add("Www-Authenticate", text)
	}
	// Clients that are offered both take passwords even where they have only an identity token.
	if (m.Passwords || m.APIKeys) && !m.OwnTokens() {
		h.Add("Www-Authenticate", "Basic realm="+quote(x.set.Realm))
	}
}

// realm is where tokens are to be had: as configured, or on the address that the client used.
func (x *exchange) realm(b *auth.BearerConfig) string {
	if b.Realm != "" {
		return b.Realm
	}
	scheme := "http://"
	if x.r.TLS != nil {
		scheme = "https://"
	}
	return scheme + x.r.Host + "/token"
}

// scope is what a token must cover for this request.
func (x *exchange) scope() string {
	if x.op == opCatalog {
		return "registry:catalog:*"
	}
	if x.repo == "" {
		return ""
	}
	actions := []string{"pull"}
	switch x.r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		if x.op != opUpload {
			actions = []string{"delete"}
			break
		}
		fallthrough
	default:
		actions = append(actions, "push")
	}
	scope := auth.Grant{Type: "repository", Name: string(x.repo), Actions: actions}.String()
	if x.op == opUploads {
		if from, err := distribution.ParseRepoName(x.r.URL.Query().Get("from")); err == nil && from != x.repo {
			scope += " " + auth.Grant{Type: "repository", Name: string(from), Actions: []string{"pull"}}.String()
		}
	}
	return scope
}

// quote writes a quoted-string (RFC 9110, section 5.6.4).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", " ", "\n", " ").Replace(s) + `"`
}

// host is an address without its port.
func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return h
}

// list splits header values at commas.
func list(values []string) []string {
	var out []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// tlsVersion is "1.3" for tls.VersionTLS13.
func tlsVersion(v uint16) string { return strings.TrimPrefix(tls.VersionName(v), "TLS ") }
