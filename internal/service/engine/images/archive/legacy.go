package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore/compression"
)

// v1Image is a layer's json file (docker image specification v1.0).
type v1Image struct {
	ID              string                           `json:"id"`
	Parent          string                           `json:"parent"`
	Created         *time.Time                       `json:"created"`
	Author          string                           `json:"author"`
	Comment         string                           `json:"comment"`
	Architecture    string                           `json:"architecture"`
	Variant         string                           `json:"variant"`
	OS              string                           `json:"os"`
	ContainerConfig struct{ Cmd cmdline }            `json:"container_config"`
	Config          *dockerspec.DockerOCIImageConfig `json:"config"`
}

// cmdline is a command as a list or as one string.
type cmdline []string

// UnmarshalJSON implements json.Unmarshaler.
func (c *cmdline) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*c = cmdline{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(c))
}

// legacyIDs are the images of an archive without manifest.json, sorted.
func (r *reader) legacyIDs() []string {
	var out []string
	for name := range r.docs {
		if dir, base := path.Split(name); base == "json" {
			out = append(out, strings.TrimSuffix(dir, "/"))
		}
	}
	sort.Strings(out)
	return out
}

// legacy understands archives of docker save before 1.10.
func (r *reader) legacy(ctx context.Context) ([]Loaded, error) {
	images, parents := map[string]v1Image{}, map[string]bool{}
	for _, id := range r.legacyIDs() {
		var img v1Image
		if err := json.Unmarshal(r.docs[id+"/json"], &img); err != nil {
			return nil, fault.Invalid("invalid archive: %s/json: %w", id, err)
		}
		images[id] = img
		parents[img.Parent] = true
	}
	tags, err := r.repositories()
	if err != nil {
		return nil, err
	}
	var out []Loaded
	for _, id := range r.legacyIDs() {
		if len(tags[id]) == 0 && parents[id] {
			continue // a layer of another image
		}
		target, err := r.legacyImage(ctx, images, id)
		if err != nil {
			return nil, err
		}
		if len(tags[id]) == 0 {
			out = append(out, Loaded{Target: target})
		}
		for _, t := range tags[id] {
			out = append(out, Loaded{Name: t, Target: target})
		}
		delete(tags, id)
	}
	for id := range tags {
		return nil, fault.Invalid("invalid archive: image %s of repositories is missing", id)
	}
	return out, nil
}

// repositories are the full references by image.
func (r *reader) repositories() (map[string][]string, error) {
	b := r.docs["repositories"]
	if b == nil {
		return nil, nil
	}
	var doc map[string]map[string]string
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fault.Invalid("invalid repositories: %w", err)
	}
	out := map[string][]string{}
	for repo, tags := range doc {
		for tag, id := range tags {
			ref, err := reference.ParseNormalizedNamed(repo)
			if err != nil {
				return nil, fault.Invalid("invalid repository %q in repositories", repo)
			}
			tagged, err := reference.WithTag(reference.TrimNamed(ref), tag)
			if err != nil {
				return nil, fault.Invalid("invalid tag %q in repositories", tag)
			}
			out[id] = append(out[id], tagged.String())
		}
	}
	for _, list := range out {
		sort.Strings(list)
	}
	return out, nil
}

// legacyImage builds configuration and manifest out of a chain of layers.
func (r *reader) legacyImage(ctx context.Context, images map[string]v1Image, id string) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	var chain []string
	seen := map[string]bool{}
	for at := id; at != ""; at = images[at].Parent {
		if _, ok := images[at]; !ok || seen[at] {
			return none, fault.Invalid("invalid archive: parent %s of image %s is missing or loops", at, id)
		}
		seen[at] = true
		chain = append(chain, at)
	}
	top := images[id]
	cfg := dockerspec.DockerOCIImage{}
	cfg.Created, cfg.Author = top.Created, top.Author
	cfg.Architecture, cfg.Variant, cfg.OS = top.Architecture, top.Variant, top.OS
	if cfg.OS == "" {
		cfg.OS = "linux"
	}
	if cfg.Architecture == "" {
		cfg.Architecture = "amd64" // the only one that docker ran on then
	}
	if top.Config != nil {
		cfg.Config = *top.Config
	}
	cfg.RootFS.Type = "layers"
	var layers []ocispec.Descriptor
	for i := len(chain) - 1; i >= 0; i-- {
		d, diff, err := r.legacyLayer(ctx, chain[i])
		if err != nil {
			return none, err
		}
		img := images[chain[i]]
		layers = append(layers, d)
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, diff)
		cfg.History = append(cfg.History, ocispec.History{
			Created: img.Created, Author: img.Author, Comment: img.Comment, CreatedBy: strings.Join(img.ContainerConfig.Cmd, " "),
		})
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		return none, fmt.Errorf("encode configuration: %w", err)
	}
	config, err := r.store.WriteBytes(ctx, typeConfig, b, nil)
	if err != nil {
		return none, err
	}
	return r.image(ctx, config, layers)
}

func (r *reader) legacyLayer(ctx context.Context, id string) (ocispec.Descriptor, digest.Digest, error) {
	d, ok := r.lookup(id + "/layer.tar")
	if !ok {
		return d, "", fault.Invalid("invalid archive: layer %s is missing", id)
	}
	d, diff, err := r.layer(ctx, d)
	if err != nil || diff != "" {
		return d, diff, err
	}
	diff, err = r.diffID(ctx, d)
	return d, diff, err
}

// diffID digests a compressed layer's plain bytes.
func (r *reader) diffID(ctx context.Context, d ocispec.Descriptor) (digest.Digest, error) {
	ra, err := r.store.Content().ReaderAt(ctx, d)
	if err != nil {
		return "", fmt.Errorf("read layer: %w", err)
	}
	defer ra.Close()
	plain, _, err := compression.NewReader(io.NewSectionReader(ra, 0, ra.Size()))
	if err != nil {
		return "", fault.Invalid("invalid layer: %w", err)
	}
	defer plain.Close()
	diff, err := digest.FromReader(plain)
	if err != nil {
		return "", fault.Invalid("invalid layer: %w", err)
	}
	return diff, nil
}
