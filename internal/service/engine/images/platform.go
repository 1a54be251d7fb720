package images

import (
	"encoding/json"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

// ParsePlatform reads a platform in the form os[/arch[/variant]].
func ParsePlatform(s string) (*ocispec.Platform, error) {
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	return &p, nil
}

// DecodePlatform reads a platform in its JSON form.
func DecodePlatform(s string) (ocispec.Platform, error) {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(s), &p); err != nil {
		return p, fault.Invalid("failed to parse platform: %w", err)
	}
	if p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0) {
		return p, fault.Invalid("optional platform fields provided, but OS and Architecture are missing")
	}
	if p.OS == "" || p.Architecture == "" {
		return p, fault.Invalid("both OS and Architecture must be provided")
	}
	return platforms.Normalize(p), nil
}
