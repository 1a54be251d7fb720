package registryclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/fault"
)

// challenge is one way to authenticate (RFC 7235 section 4.1).
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// token is a bearer token with the time from which it is not used any more.
type token struct {
	value string
	until time.Time
}

// parseChallenges reads WWW-Authenticate headers; what is not well formed is skipped.
func parseChallenges(headers []string) []challenge {
	var out []challenge
	for _, h := range headers {
		out = append(out, parseHeader(h)...)
	}
	return out
}

// parseHeader reads one header, which may hold several challenges.
func parseHeader(h string) []challenge {
	var out []challenge
	for h = strings.TrimSpace(h); h != ""; {
		word, rest := cutToken(h)
		if word == "" {
			return out
		}
		c := challenge{strings.ToLower(word), map[string]string{}}
		rest = strings.TrimLeft(rest, " \t")
		for {
			name, after := cutToken(rest)
			after = strings.TrimLeft(after, " \t")
			if name == "" || !strings.HasPrefix(after, "=") {
				break
			}
			var value string
			value, rest = cutValue(strings.TrimLeft(after[1:], " \t"))
			c.params[strings.ToLower(name)] = value
			rest = strings.TrimLeft(rest, " \t,")
		}
		out = append(out, c)
		if len(rest) == len(h) {
			return out
		}
		h = strings.TrimLeft(rest, " \t,")
	}
	return out
}

func cutToken(s string) (word, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return strings.ContainsRune(" \t,=\"", r) })
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return cutToken(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

func (s *session) find(scheme string) (challenge, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.challenge {
		if c.scheme == scheme {
			return c, true
		}
	}
	return challenge{}, false
}

func (s *session) canAuthorize() bool {
	_, bearer := s.find("bearer")
	_, basic := s.find("basic")
	return bearer || basic
}

// forget drops tokens that the registry did not take.
func (s *session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// authorize adds credentials to a request to the registry, as it demanded them.
func (s *session) authorize(ctx context.Context, req *http.Request) error {
	if req.URL.Host != s.endpoint.base.Host {
		return nil // an upload location elsewhere carries its own authorisation
	}
	if c, ok := s.find("bearer"); ok {
		if s.auth != nil && s.auth.RegistryToken != "" {
			req.Header.Set("Authorization", "Bearer "+s.auth.RegistryToken)
			return nil
		}
		t, err := s.token(ctx, c)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+t)
		return nil
	}
	if _, ok := s.find("basic"); ok {
		if s.auth == nil || s.auth.Username == "" {
			return &url.Error{Op: title(req.Method), URL: redact(req.URL.String()), Err: errNoBasic}
		}
		req.SetBasicAuth(s.auth.Username, s.auth.Password)
	}
	return nil
}

func title(method string) string { return method[:1] + strings.ToLower(method[1:]) }

var errNoBasic = fault.New(errdefs.ErrUnauthenticated, "no basic auth credentials")

// token gives a bearer token for the session's scopes, from memory while it lasts.
func (s *session) token(ctx context.Context, c challenge) (string, error) {
	scopes := s.scopes(c)
	key := strings.Join(scopes, " ")
	s.fetching.Lock() // parallel requests ask for one token
	defer s.fetching.Unlock()
	s.mu.Lock()
	t, ok := s.tokens[key]
	s.mu.Unlock()
	if ok && time.Now().Before(t.until) {
		return t.value, nil
	}
	t, err := s.fetchToken(ctx, c, scopes)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[key] = t
	return t.value, nil
}

func (s *session) scopes(c challenge) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	if s.scope != "" {
		out = append(out, s.scope)
	}
	out = append(out, s.extra...)
	if len(out) == 0 && c.params["scope"] != "" {
		out = append(out, c.params["scope"])
	}
	return out
}

// tokenAnswer is a token service's answer.
type tokenAnswer struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
}

// minToken is how long a token is taken to last when the service says less or nothing (token specification: 60 s).
const minToken = 60 * time.Second

// fetchToken asks the token service: with an identity token by OAuth2, else with name and password or anonymously.
func (s *session) fetchToken(ctx context.Context, c challenge, scopes []string) (token, error) {
	realm, err := url.Parse(c.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" {
		return token{}, fault.New(errdefs.ErrUnavailable, "invalid token auth challenge realm: %q", c.params["realm"])
	}
	identity := ""
	if s.auth != nil {
		identity = s.auth.IdentityToken
	}
	var req *http.Request
	if identity != "" {
		req, err = s.oauthRequest(ctx, realm, c, scopes, identity)
	} else {
		req, err = s.tokenRequest(ctx, realm, c, scopes)
	}
	if err != nil {
		return token{}, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return token{}, unreachable(err)
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return token{}, readError(call{method: req.Method, address: realm.String()}, resp)
	}
	var a tokenAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(&a); err != nil {
		return token{}, fmt.Errorf("unable to decode token response: %w", err)
	}
	if a.Token == "" {
		a.Token = a.AccessToken
	}
	if a.Token == "" {
		return token{}, errors.New("authorization server did not include a token in the response")
	}
	if a.RefreshToken != "" {
		s.mu.Lock()
		s.refresh = a.RefreshToken
		s.mu.Unlock()
	}
	life := max(time.Duration(a.ExpiresIn)*time.Second, minToken)
	return token{a.Token, time.Now().Add(life * 9 / 10)}, nil
}

func (s *session) tokenRequest(ctx context.Context, realm *url.URL, c challenge, scopes []string) (*http.Request, error) {
	u := *realm
	q := u.Query()
	if c.params["service"] != "" {
		q.Set("service", c.params["service"])
	}
	for _, sc := range scopes {
		q.Add("scope", sc)
	}
	named := s.auth != nil && s.auth.Username != ""
	if named {
		q.Set("account", s.auth.Username)
		q.Set("client_id", clientID)
	}
	if named && s.offline {
		q.Set("offline_token", "true")
	}
	u.RawQuery = q.Encode()
	req, err := s.request(ctx, http.MethodGet, u.String(), nil)
	if err == nil && named {
		req.SetBasicAuth(s.auth.Username, s.auth.Password)
	}
	return req, err
}

func (s *session) oauthRequest(ctx context.Context, realm *url.URL, c challenge, scopes []string, identity string) (*http.Request, error) {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {identity}, "client_id": {clientID}, "service": {c.params["service"]},
	}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	req, err := s.request(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	}
	return req, err
}
