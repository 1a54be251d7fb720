package images

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/registryclient"
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
	if s.cfg.Search == nil {
		return nil, fault.Unavailable("error searching for %q: no hub to search is configured", o.Term)
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
	var out registry.DistributionInspect
	parsed, err := reference.ParseAnyReference(name)
	if err != nil {
		return out, fault.Invalid("%w", err)
	}
	ref, ok := parsed.(reference.Named)
	if !ok {
		return out, fault.Internal("no manifest found for full image ID")
	}
	ref = reference.TagNameOnly(ref)
	repos, err := s.client.Repositories(ctx, ref, auth, registryclient.Pull)
	if err != nil {
		return out, err
	}
	defer func() {
		for _, r := range repos {
			r.Close()
		}
	}()
	var last error
	for _, r := range repos {
		if last = r.Ping(ctx); last != nil {
			continue
		}
		if out, last = distribution(ctx, r, ref); last == nil {
			return out, nil
		}
	}
	var re *registryclient.Error
	if errors.As(last, &re) {
		if re.Code == "DENIED" || re.Code == "UNAUTHORIZED" || re.Code == "NAME_UNKNOWN" {
			return out, fault.New(re.Unwrap(), "%w", re)
		}
		return out, registryError(re)
	}
	return out, last
}

func distribution(ctx context.Context, r *registryclient.Repository, ref reference.Named) (registry.DistributionInspect, error) {
	out := registry.DistributionInspect{Platforms: []ocispec.Platform{}}
	tag := ""
	switch x := ref.(type) {
	case reference.Digested:
		tag = x.Digest().String()
	case reference.Tagged:
		tag = x.Tag()
	}
	d, body, err := r.Manifest(ctx, tag)
	if err != nil {
		return out, err
	}
	out.Descriptor = d
	if c8images.IsIndexType(d.MediaType) {
		var idx ocispec.Index
		if err := json.Unmarshal(body, &idx); err != nil {
			return out, fault.Internal("invalid index: %w", err)
		}
		for _, m := range idx.Manifests {
			if m.Platform != nil {
				out.Platforms = append(out.Platforms, *m.Platform)
			}
		}
		return out, nil
	}
	var doc ocispec.Manifest
	if err := json.Unmarshal(body, &doc); err != nil || doc.Config.Digest.Validate() != nil {
		return out, nil
	}
	if p, ok := configPlatform(ctx, r, doc.Config); ok {
		out.Platforms = append(out.Platforms, p)
	}
	return out, nil
}

func configPlatform(ctx context.Context, r *registryclient.Repository, d ocispec.Descriptor) (ocispec.Platform, bool) {
	var p ocispec.Platform
	if d.Size > 8<<20 {
		return p, false
	}
	rc, err := r.Blob(ctx, d)
	if err != nil {
		return p, false
	}
	defer rc.Close()
	if err := json.NewDecoder(io.LimitReader(rc, 8<<20)).Decode(&p); err != nil {
		return p, false
	}
	return p, p.OS != "" || p.Architecture != ""
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
