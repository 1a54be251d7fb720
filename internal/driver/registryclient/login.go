package registryclient

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"

	"longshore/internal/core/fault"
)

// CheckAuth tries credentials on their registry (Docker Hub without server address). It answers docker's status text
// and an identity token when the registry gave one.
func (c *Client) CheckAuth(ctx context.Context, auth registry.AuthConfig) (status, identity string, err error) {
	host := hubHost
	if auth.ServerAddress != "" {
		address := auth.ServerAddress
		if !strings.Contains(address, "://") {
			address = "https://" + address
		}
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return "", "", fault.Invalid("unable to parse server address: %q", auth.ServerAddress)
		}
		host = u.Host
	}
	e, err := c.home(ctx, host, &auth)
	if err != nil {
		return "", "", err
	}
	identity, err = c.login(ctx, e, auth)
	if err != nil {
		return "", "", err
	}
	return "Login Succeeded", identity, nil
}

// home is the registry itself, as hosts.toml describes it where there is one.
func (c *Client) home(ctx context.Context, host string, auth *registry.AuthConfig) (endpoint, error) {
	domain := host
	if isHub(host) {
		domain = hubName
	}
	list, err := c.described(ctx, domain, auth)
	if err != nil {
		return endpoint{}, err
	}
	for _, e := range slices.Backward(list) {
		if e.home {
			return e, nil
		}
	}
	return c.upstream(ctx, host)
}

func (c *Client) login(ctx context.Context, e endpoint, auth registry.AuthConfig) (string, error) {
	s := c.session(e, &auth)
	s.offline = true
	defer s.Close()
	if err := s.Ping(ctx); err != nil {
		return "", err
	}
	resp, err := s.do(ctx, call{method: http.MethodGet, address: s.url("/v2/")}, http.StatusOK)
	if err != nil {
		var re *Error
		if errors.As(err, &re) && re.Status == http.StatusUnauthorized {
			return "", fault.New(errdefs.ErrUnauthenticated, "%w", &url.Error{Op: "Get", URL: s.url("/v2/"), Err: re})
		}
		if errors.As(err, &re) {
			return "", fault.Internal("login attempt to %s failed with status: %d %s", s.url("/v2/"), re.Status, http.StatusText(re.Status))
		}
		return "", err
	}
	drain(resp)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refresh != "" {
		return s.refresh, nil
	}
	return auth.IdentityToken, nil
}
