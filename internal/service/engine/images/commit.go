package images

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/service/engine/images/catalog"
	"longshore/internal/service/engine/images/changes"
)

// CommitSource gives the containers' side of a commit: it finds the container, pauses it when asked, calls f with what
// is to be committed, and lets it go on.
type CommitSource interface {
	CommitSource(ctx context.Context, ref string, pause bool, f func(image.CommitOptions) error) error
	// Committed tells about the container's part of a commit; imageRef may be empty.
	Committed(ctx context.Context, ref, comment, imageID, imageRef string)
}

// CommitRequest is what a client asks of a commit.
type CommitRequest struct {
	Container       string
	Repo, Tag       string
	Comment, Author string
	Pause           bool
	Changes         []string
	// Config replaces parts of the container's configuration; may be nil.
	Config *container.Config
}

// CommitContainer makes an image of a container. The configuration is the request's with changes applied, completed
// from the container's.
func (s *Service) CommitContainer(ctx context.Context, src CommitSource, req CommitRequest) (digest.Digest, error) {
	ref, err := RepoTag(req.Repo, req.Tag)
	if err != nil {
		return "", err
	}
	var id digest.Digest
	err = src.CommitSource(ctx, req.Container, req.Pause, func(o image.CommitOptions) error {
		config := req.Config
		if config == nil {
			config = clone(o.Config)
		}
		if err := changes.Apply(config, req.Changes); err != nil {
			return err
		}
		merge(config, o.Config)
		o.ContainerConfig, o.Config = o.Config, config
		o.Author, o.Comment, o.Ref = req.Author, req.Comment, ""
		if ref != nil {
			o.Ref = ref.String()
		}
		var err error
		id, err = s.Commit(ctx, o)
		return err
	})
	if err != nil {
		return "", err
	}
	name := ""
	if ref != nil {
		name = reference.FamiliarString(ref)
	}
	src.Committed(ctx, req.Container, req.Comment, id.String(), name)
	return id, nil
}

func clone(c *container.Config) *container.Config {
	if c == nil {
		return &container.Config{}
	}
	out := *c
	return &out
}

// merge completes a configuration from another one, as docker does for commits.
func merge(c, from *container.Config) {
	if from == nil {
		return
	}
	if c.User == "" {
		c.User = from.User
	}
	c.ExposedPorts = union(c.ExposedPorts, from.ExposedPorts)
	c.Volumes = union(c.Volumes, from.Volumes)
	env := slices.Clone(c.Env)
	for _, e := range from.Env {
		name, _, _ := strings.Cut(e, "=")
		if !slices.ContainsFunc(env, func(have string) bool { k, _, _ := strings.Cut(have, "="); return k == name }) {
			env = append(env, e)
		}
	}
	c.Env = env
	c.Labels = union(c.Labels, from.Labels)
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = from.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = from.Entrypoint
		}
	}
	if c.Healthcheck == nil {
		c.Healthcheck = from.Healthcheck
	}
	if c.WorkingDir == "" {
		c.WorkingDir = from.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = from.StopSignal
	}
}

// union adds to m what only from has.
func union[K comparable, V any](m, from map[K]V) map[K]V {
	if len(m) == 0 && len(from) == 0 {
		return m
	}
	out := maps.Clone(from)
	if out == nil {
		out = map[K]V{}
	}
	maps.Copy(out, m)
	return out
}

// Commit implements image.Committer.
func (s *Service) Commit(ctx context.Context, o image.CommitOptions) (digest.Digest, error) {
	var ref reference.Named
	if o.Ref != "" {
		parsed, err := reference.ParseNormalizedNamed(o.Ref)
		if err != nil {
			return "", fault.Invalid("%w", err)
		}
		ref = reference.TagNameOnly(parsed)
	}
	base, layers, err := s.parent(o)
	if err != nil {
		return "", err
	}
	ctx, release, err := s.store.Lease(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	layer, err := s.diffLayer(ctx, o.Key)
	if err != nil {
		return "", err
	}
	cfg := commitConfig(base, o, layer)
	if layer.desc.Digest != "" {
		layers = append(slices.Clone(layers), layer.desc)
	}
	held := make([]digest.Digest, 0, len(layers))
	for _, l := range layers {
		held = append(held, l.Digest)
	}
	if err := s.store.Hold(ctx, held...); err != nil {
		return "", err
	}
	target, err := s.writeImage(ctx, cfg, layers)
	if err != nil {
		return "", err
	}
	e, err := s.addUnpacked(ctx, target, ref, o.Parent)
	if err != nil {
		return "", err
	}
	id := e.ID().String()
	s.publish(ctx, events.ActionCreate, id, id, labels(e))
	return e.ID(), nil
}

// parent is what the container was made from: nothing for a container of an empty image.
func (s *Service) parent(o image.CommitOptions) (dockerspec.DockerOCIImage, []ocispec.Descriptor, error) {
	if o.ParentManifest.Digest == "" && o.Parent == "" {
		return dockerspec.DockerOCIImage{}, nil, nil
	}
	e := s.cat.Target(o.Parent)
	if e == nil {
		e = s.cat.Containing(o.ParentManifest.Digest)
	}
	if e == nil {
		return dockerspec.DockerOCIImage{}, nil, fault.NotFound("No such image: %s", o.Parent)
	}
	var found *catalog.Manifest
	for _, m := range e.Manifests {
		if m.Desc.Digest == o.ParentManifest.Digest {
			found = m
		}
	}
	if found == nil {
		m, err := e.Best(nil)
		if err != nil {
			return dockerspec.DockerOCIImage{}, nil, err
		}
		found = m
	}
	return found.Image, found.Layers, nil
}

// diffLayer stores a container's changes; a zero layer when there are none.
func (s *Service) diffLayer(ctx context.Context, key string) (layerBlob, error) {
	list, err := s.store.Changes(ctx, key)
	if err != nil || len(list) == 0 {
		return layerBlob{}, err
	}
	return s.writeLayer(ctx, func(w io.Writer) error { return s.store.WriteDiff(ctx, key, w) })
}

func commitConfig(base dockerspec.DockerOCIImage, o image.CommitOptions, layer layerBlob) dockerspec.DockerOCIImage {
	created := now()
	cfg := dockerspec.DockerOCIImage{}
	cfg.Created, cfg.Author = &created, o.Author
	if cfg.Author == "" {
		cfg.Author = base.Author
	}
	cfg.Platform = base.Platform
	if cfg.OS == "" {
		cfg.Platform = o.Platform
	}
	if cfg.OS == "" {
		cfg.Platform = catalog.Host()
	}
	cfg.RootFS.Type = "layers"
	cfg.RootFS.DiffIDs = slices.Clone(base.RootFS.DiffIDs)
	if layer.diff != "" {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, layer.diff)
	}
	step := ocispec.History{Created: &created, Author: cfg.Author, Comment: o.Comment, EmptyLayer: layer.diff == ""}
	if o.ContainerConfig != nil {
		step.CreatedBy = strings.Join(o.ContainerConfig.Cmd, " ")
	}
	cfg.History = append(slices.Clone(base.History), step)
	if o.Config != nil {
		cfg.Config = imageConfig(o.Config)
	}
	return cfg
}
