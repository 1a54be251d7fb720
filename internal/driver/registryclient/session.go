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
	"sync"
	"time"

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
	client    *Client
	endpoint  endpoint
	http      *http.Client
	transport *http.Transport
	auth      *registry.AuthConfig
	scope     string
	extra     []string // further scopes, for mounts from other repositories
	offline   bool     // asks for an identity token, which only a log-in keeps

	fetching sync.Mutex // held while a token is fetched

	mu        sync.Mutex // guards what follows
	challenge []challenge
	tokens    map[string]token // by scope
	refresh   string           // a refresh token that the token service gave
}

// Close drops idle connections.
func (s *session) Close() { s.transport.CloseIdleConnections() }

// Host is the registry's host and port.
func (s *session) Host() string { return s.endpoint.base.Host }

// url makes an address below the registry's root. path begins with "/v2/".
func (s *session) url(path string) string {
	u := s.endpoint.base
	u.Path += path
	return u.String()
}

// Ping checks that something answers at /v2/ and learns how to authenticate. What it answers does not matter, except
// that it must be HTTP.
func (s *session) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := s.request(ctx, http.MethodGet, s.url("/v2/"), nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer drain(resp)
	s.learn(resp)
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
		if s.again(ctx, resp, attempt) {
			drain(resp)
			continue
		}
		defer drain(resp)
		return nil, readError(c, resp)
	}
}

// again decides about a second attempt after an answer that says "later", and waits for it.
func (s *session) again(ctx context.Context, resp *http.Response, attempt int) bool {
	if attempt >= 3 {
		return false
	}
	var wait time.Duration
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		if resp.Header.Get("Retry-After") == "" {
			return false
		}
		d, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s")
		if err != nil || d > 30*time.Second {
			return false
		}
		wait = d
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		wait = time.Duration(attempt+1) * 300 * time.Millisecond
	default:
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
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

// unreachable keeps the text of errors of the HTTP client ("Get "https://…": dial tcp …"), which is docker's too.
func unreachable(err error) error {
	var u *url.Error
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
	text string
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
	e := &Error{Status: resp.StatusCode}
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
