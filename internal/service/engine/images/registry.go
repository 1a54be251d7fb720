package images

import (
	"context"
	"strconv"

	"github.com/moby/moby/api/types/registry"

	"longshore/internal/core/fault"
)

// SearchOptions describes a search.
type SearchOptions struct {
	Term  string
	Limit int
	// Filters are is-official, is-automated and stars.
	Filters map[string][]string
	Auth    *registry.AuthConfig
}

// Searcher answers searches for images on a hub.
type Searcher interface {
	Search(ctx context.Context, term string, limit int, auth *registry.AuthConfig) ([]registry.SearchResult, error)
}

// Search looks for images on the hub that the engine was given.
func (s *Service) Search(ctx context.Context, o SearchOptions) ([]registry.SearchResult, error) {
	keep, err := searchFilter(o.Filters)
	if err != nil {
		return nil, err
	}
	if o.Limit == 0 {
		o.Limit = 25
	}
	if o.Limit < 1 || o.Limit > 100 {
		return nil, fault.Invalid("limit %d is outside the range of [1, 100]", o.Limit)
	}
	list, err := s.cfg.Search.Search(ctx, o.Term, o.Limit, o.Auth)
	if err != nil {
		return nil, err
	}
	out := []registry.SearchResult{}
	for _, r := range list {
		if keep(r) {
			out = append(out, r)
		}
	}
	return out, nil
}

func searchFilter(filters map[string][]string) (func(registry.SearchResult) bool, error) {
	official, automated, stars := -1, -1, 0
	for k, values := range filters {
		switch k {
		case "is-official", "is-automated":
			want, err := boolFilter(k, values)
			if err != nil {
				return nil, err
			}
			n := 0
			if want {
				n = 1
			}
			if k == "is-official" {
				official = n
			} else {
				automated = n
			}
		case "stars":
			for _, v := range values {
				n, err := strconv.Atoi(v)
				if err != nil {
					return nil, fault.Invalid("invalid filter 'stars=%s'", v)
				}
				stars = max(stars, n)
			}
		default:
			return nil, fault.Invalid("invalid filter '%s'", k)
		}
	}
	return func(r registry.SearchResult) bool {
		return (official < 0 || r.IsOfficial == (official == 1)) && automated != 1 && r.StarCount >= stars
	}, nil
}

// CheckAuth tries credentials on their registry.
func (s *Service) CheckAuth(ctx context.Context, auth registry.AuthConfig) (status, token string, err error) {
	return s.client.CheckAuth(ctx, auth)
}

// Distribution tells what a registry has under a name: descriptor and platforms.
func (s *Service) Distribution(ctx context.Context, name string, auth *registry.AuthConfig) (registry.DistributionInspect, error) {
	return s.remote.Distribution(ctx, name, auth)
}
