package registryclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

// maxError bounds what is read of an error body, maxDocument of a document, in bytes.
const (
	maxError    = 64 << 10
	maxDocument = 8 << 20
)

// session is the conversation with one registry.
type session struct {
	client   *Client
	endpoint endpoint
	http     *http.Client
	auth     *registry.AuthConfig
	scope    string
	extra    []string // further scopes, for mounts from other repositories
	offline  bool     // asks for an identity token, which only a log-in keeps

	fetching sync.Mutex // held while a token is fetched

	mu        sync.Mutex // guards what follows
	challenge []challenge
	tokens    map[string]token // by scope
	refresh   string           // a refresh token that the token service gave
}

// Close drops idle connections.
func (s *session) Close() { s.http.CloseIdleConnections() }

// Host is the registry's host and port.
func (s *session) Host() string { return s.endpoint.base.Host }

// Resolves tells whether the registry may be asked what a tag means, and not only for what has a digest.
func (s *session) Resolves() bool { return s.endpoint.can.Has(docker.HostCapabilityResolve) }

// Holds tells whether the registry may be asked for what has a digest.
func (s *session) Holds() bool { return s.endpoint.can.Has(docker.HostCapabilityPull) }

// url makes an address below the registry's root. path begins with "/v2/".
func (s *session) url(path string) string { return s.endpoint.url(path) }

// Ping checks that something answers at /v2/ and learns how to authenticate. What it answers does not matter, except
// that it must be HTTP. Call it before anything else; it settles whether the registry speaks HTTPS.
func (s *session) Ping(ctx context.Context) error {
	err := s.ping(ctx)
	if err == nil || !s.endpoint.plain || s.endpoint.base.Scheme != "https" || ctx.Err() != nil {
		return err
	}
	s.endpoint.base.Scheme = "http"
	switch perr := s.ping(ctx); {
	case errors.Is(perr, errSpeaksTLS):
		s.endpoint.base.Scheme = "https"
		return err
	default:
		return perr
	}
}

// errSpeaksTLS is a server of HTTPS that was spoken to in plain HTTP.
var errSpeaksTLS = errors.New("server expects HTTPS")

func (s *session) ping(ctx context.Context) error {
	pctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := s.request(pctx, http.MethodGet, s.url("/v2/"), nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if ne := net.Error(nil); ctx.Err() == nil && errors.As(err, &ne) && ne.Timeout() {
		return contactError{unreachable(err)}
	}
	if err != nil {
		return unreachable(err)
	}
	defer drain(resp)
	if s.endpoint.plain && req.URL.Scheme == "http" && resp.StatusCode == http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // what there is of it
		if strings.Contains(string(text), "HTTP request to an HTTPS server") || strings.Contains(string(text), "plain HTTP request was sent to HTTPS port") {
			return errSpeaksTLS
		}
	}
	s.learn(resp)
	return nil
}

// redirect follows redirects as the standard client does, but what is meant for the endpoint goes to no other: Go hands
// credentials on to another port of the same host, and headers of one's own to everyone.
func (s *session) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	if req.URL.Host == s.endpoint.base.Host && (req.URL.Scheme == s.endpoint.base.Scheme || req.URL.Scheme == "https") {
		return nil
	}
	req.Header.Del("Authorization")
	for k := range s.endpoint.header {
		req.Header.Del(k)
	}
	return nil
}

func (s *session) learn(resp *http.Response) {
	if resp.StatusCode != http.StatusUnauthorized {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.challenge = parseChallenges(resp.Header.Values("WWW-Authenticate"))
}

func (s *session) request(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("User-Agent", s.client.Config().UserAgent)
	if req.URL.Host == s.endpoint.base.Host {
		for k, v := range s.endpoint.header {
			req.Header[http.CanonicalHeaderKey(k)] = v
		}
	}
	return req, nil
}

// call is a request that may have to be sent again with other credentials.
type call struct {
	method, address string
	header          http.Header
	// body opens the body anew for each attempt; nil for none. size is its length in bytes.
	body func() (io.ReadCloser, error)
	size int64
}

// do sends a call, with credentials as the registry demands. The caller closes the answer's body. Answers other than
// the statuses listed are turned into errors.
func (s *session) do(ctx context.Context, c call, want ...int) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		resp, err := s.send(ctx, c)
		if err != nil {
			return nil, err
		}
		for _, w := range want {
			if resp.StatusCode == w {
				return resp, nil
			}
		}
		if resp.StatusCode == http.StatusUnauthorized && attempt == 0 {
			s.learn(resp)
			s.forget()
			if s.canAuthorize() {
				drain(resp)
				continue
			}
		}
		defer drain(resp)
		return nil, readError(c, resp)
	}
}

func (s *session) send(ctx context.Context, c call) (*http.Response, error) {
	var body io.Reader
	if c.body != nil {
		rc, err := c.body()
		if err != nil {
			return nil, err
		}
		body = rc // closed by the transport
	}
	req, err := s.request(ctx, c.method, c.address, body)
	if err != nil {
		return nil, err
	}
	if c.body != nil {
		req.ContentLength, req.GetBody = c.size, c.body
		if c.size == 0 {
			req.Body, req.GetBody = http.NoBody, nil
		}
	}
	for k, v := range c.header {
		req.Header[k] = v
	}
	if err := s.authorize(ctx, req); err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	return resp, nil
}

// drain reads what little is left of an answer, so that its connection can be used again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxError) // best effort
	_ = resp.Body.Close()
}

// unreachable keeps the text of errors of the HTTP client ("Get "https://…": dial tcp …"), which is docker's too, but for
// queries.
func unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		u.URL = redact(u.URL)
	}
	if errors.As(err, &u) && strings.Contains(u.Err.Error(), "server gave HTTP response to HTTPS client") {
		return &url.Error{Op: u.Op, URL: u.URL, Err: errors.New("http: server gave HTTP response to HTTPS client")}
	}
	return err
}

// Error is what a registry answered instead of what was asked for.
type Error struct {
	Status int
	// Code is the first of the registry's error codes, such as "MANIFEST_UNKNOWN"; may be empty.
	Code string
	// After is how long the registry asks to wait before the next attempt; 0: it does not.
	After time.Duration
	text  string
}

// Error implements error with docker's rendering: the code in words, then the message.
func (e *Error) Error() string { return e.text }

// Unwrap gives the class of the error.
func (e *Error) Unwrap() error {
	switch {
	case e.Status == http.StatusNotFound:
		return errdefs.ErrNotFound
	case e.Status == http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated
	case e.Status == http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case e.Status == http.StatusTooManyRequests:
		return errdefs.ErrResourceExhausted
	case e.Status >= http.StatusInternalServerError:
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrUnknown
}

type errorDoc struct {
	Errors []struct {
		Code    string          `json:"code"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	} `json:"errors"`
	Details string `json:"details"` // of old token services
}

func readError(c call, resp *http.Response) error {
	e := &Error{Status: resp.StatusCode, After: retryAfter(resp.Header, time.Now())}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // what there is of it
	var doc errorDoc
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		var parts []string
		for _, x := range doc.Errors {
			parts = append(parts, describe(x.Code, x.Message))
		}
		e.Code, e.text = doc.Errors[0].Code, strings.Join(parts, "\n")
		return e
	}
	switch {
	case doc.Details != "":
		e.text = "unauthorized: " + doc.Details
	case resp.StatusCode == http.StatusUnauthorized:
		e.Code, e.text = "UNAUTHORIZED", "unauthorized: authentication required"
	case resp.StatusCode == http.StatusForbidden:
		e.Code, e.text = "DENIED", "denied: requested access to the resource is denied"
	case resp.StatusCode == http.StatusTooManyRequests:
		e.Code, e.text = "TOOMANYREQUESTS", "toomanyrequests: too many requests"
	case resp.StatusCode == http.StatusNotFound && strings.Contains(c.address, "/manifests/"):
		e.Code, e.text = "MANIFEST_UNKNOWN", "manifest unknown: manifest unknown"
	default:
		e.text = fmt.Sprintf("unexpected status from %s request to %s: %s", c.method, redact(c.address), resp.Status)
	}
	return e
}

func describe(code, message string) string {
	words := strings.ToLower(strings.ReplaceAll(code, "_", " "))
	if message == "" {
		return words
	}
	return words + ": " + message
}

// redact removes queries: they may carry signatures.
func redact(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.RawQuery, u.Fragment = "", ""
	return u.Redacted()
}
