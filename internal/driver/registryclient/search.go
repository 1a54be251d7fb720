package registryclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"

	"longshore/internal/core/fault"
)

// hubIndex answers searches on Docker Hub.
const hubIndex = "index.docker.io"

// Search asks the registry that the term begins with ("host:5000/term"), else the configured index, else Docker Hub, by the
// search of registry version 1. limit is the number of results wanted.
func (c *Client) Search(ctx context.Context, term string, limit int, auth *registry.AuthConfig) ([]registry.SearchResult, error) {
	if strings.Contains(term, "://") {
		return nil, fault.Invalid("invalid repository name: repository name (%s) should not have a scheme", term)
	}
	host := hubIndex
	if c.current.Load().cfg.Index != "" {
		host = c.current.Load().cfg.Index
	}
	if head, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(head, ".:") || head == "localhost") {
		host, term = head, rest
	}
	e, err := c.upstream(ctx, host)
	if err != nil {
		return nil, err
	}
	if isHub(host) {
		e.base.Host = hubIndex // with Docker Hub's certificates, if it has any: they are one
	}
	out, err := c.searchOn(ctx, e, term, limit, auth)
	if errdefs.IsUnauthorized(err) && auth != nil && host == c.current.Load().cfg.Index {
		// Clients send what they have for Docker Hub when they name no host.
		return c.searchOn(ctx, e, term, limit, nil)
	}
	return out, err
}

func (c *Client) searchOn(ctx context.Context, e endpoint, term string, limit int, auth *registry.AuthConfig) ([]registry.SearchResult, error) {
	s := c.session(e, nil)
	defer s.Close()
	out, err := s.search(ctx, term, limit, auth)
	if err != nil && e.plain && !errdefs.IsUnauthorized(err) {
		s.endpoint.base.Scheme = "http"
		return s.search(ctx, term, limit, auth)
	}
	return out, err
}

func (s *session) search(ctx context.Context, term string, limit int, auth *registry.AuthConfig) ([]registry.SearchResult, error) {
	address := s.url("/v1/search") + "?" + url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}.Encode()
	req, err := s.request(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Docker-Token", "true")
	if auth != nil && auth.Username != "" {
		req.SetBasicAuth(auth.Username, auth.Password)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer drain(resp)
	if resp.StatusCode == http.StatusUnauthorized {
		return nil, fault.New(errdefs.ErrUnauthenticated, "Unexpected status code %d", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fault.Internal("Unexpected status code %d", resp.StatusCode)
	}
	var doc registry.SearchResults
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(&doc); err != nil {
		return nil, fmt.Errorf("error decoding registry search results: %w", err)
	}
	return doc.Results, nil
}
