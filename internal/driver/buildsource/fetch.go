package buildsource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"longshore/internal/core/fault"
)

// Config settles how remote sources are reached.
type Config struct {
	// AllowLocal lets remotes be, or redirect to, addresses of the host itself.
	AllowLocal bool
	// UserAgent of downloads.
	UserAgent string
	// Git is the git program; empty: "git" on the PATH.
	Git string
}

// Remotes fetches what a build's "remote" names. Safe for concurrent use.
type Remotes struct {
	cfg    Config
	guard  *guard
	client *http.Client
}

// NewRemotes makes a fetcher.
func NewRemotes(cfg Config) *Remotes {
	if cfg.Git == "" {
		cfg.Git = "git"
	}
	g := newGuard(cfg.AllowLocal)
	return &Remotes{cfg: cfg, guard: g, client: &http.Client{Transport: g.transport(), CheckRedirect: redirect}}
}

// maxRedirects is what browsers follow, more or less.
const maxRedirects = 10

func redirect(r *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fault.Invalid("remote %s redirects more than %d times", via[0].URL.Redacted(), maxRedirects)
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return fault.Invalid("remote %s redirects to %s, which is no HTTP address", via[0].URL.Redacted(), r.URL.Redacted())
	}
	return nil
}

// Close lets idle connections go.
func (r *Remotes) Close() error {
	r.client.CloseIdleConnections()
	return nil
}

// Get opens a document. The caller closes it.
func (r *Remotes) Get(ctx context.Context, address string) (io.ReadCloser, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fault.Invalid("remoteURL (%s) could not be recognized as URL", address)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fault.Invalid("remote %s: %w", u.Redacted(), err)
	}
	if r.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", r.cfg.UserAgent)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		if err = refused(u.Redacted(), err); !errors.Is(err, errLocal) {
			err = fmt.Errorf("fetch remote %s: %w", u.Redacted(), err)
		}
		return nil, err
	}
	if resp.StatusCode >= 400 {
		_ = resp.Body.Close()
		return nil, fault.Invalid("failed to GET %s with status %s", u.Redacted(), resp.Status)
	}
	return resp.Body, nil
}
