package classic

import (
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// tagList are a build's names, once as the engine keeps them and once as clients read them.
type tagList struct{ full, familiar []string }

// tags reads names as docker does: each once, with ":latest" where no tag is, never with a digest.
func tags(names []string) (tagList, error) {
	var out tagList
	for _, n := range names {
		if n == "" {
			continue
		}
		ref, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return out, fault.Invalid("%w", err)
		}
		if _, digested := ref.(reference.Canonical); digested {
			return out, fault.Invalid("build tag cannot contain a digest")
		}
		ref = reference.TagNameOnly(ref)
		if !slices.Contains(out.full, ref.String()) {
			out.full, out.familiar = append(out.full, ref.String()), append(out.familiar, reference.FamiliarString(ref))
		}
	}
	return out, nil
}

func parsePlatform(s string) (ocispec.Platform, error) {
	p, err := platforms.Parse(s)
	if err != nil {
		return p, fault.Invalid("%w", err)
	}
	return platforms.Normalize(p), nil
}

// hub is the host name under which credentials of Docker Hub are kept.
const hub = "docker.io"

// hosts keys credentials by host name; clients use addresses such as "https://index.docker.io/v1/" too.
func hosts(auth map[string]registry.AuthConfig) map[string]registry.AuthConfig {
	out := make(map[string]registry.AuthConfig, len(auth))
	for key, a := range auth {
		host := key
		if u, err := url.Parse(key); err == nil && u.Host != "" {
			host = u.Host
		}
		host, _, _ = strings.Cut(host, "/")
		switch host {
		case "index.docker.io", "registry-1.docker.io":
			host = hub
		}
		if _, taken := out[host]; !taken || host == key {
			out[host] = a
		}
	}
	return out
}

// credentials are those for a reference's registry; nil without.
func credentials(auth map[string]registry.AuthConfig, ref reference.Named) *registry.AuthConfig {
	if a, ok := auth[reference.Domain(ref)]; ok {
		return &a
	}
	return nil
}
