package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/catalog"
)

// PullOptions describes a pull.
type PullOptions struct {
	// Image and Tag are docker's fromImage and tag; the tag may be a digest. Without any tag all tags are pulled.
	Image, Tag string
	Platform   *ocispec.Platform
	// Auth are the client's credentials; may be nil.
	Auth *registry.AuthConfig
}

// PullRef reads what a pull names.
func PullRef(image, tag string) (reference.Named, error) {
	if n := len(image); n > 0 && image[n-1] == ':' { // "pull -a" of old clients
		image = image[:n-1]
	}
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, fault.Invalid("%w", err)
	}
	if tag != "" {
		if d, derr := digest.Parse(tag); derr == nil {
			ref, err = reference.WithDigest(reference.TrimNamed(ref), d)
		} else {
			ref, err = reference.WithTag(reference.TrimNamed(ref), tag)
		}
		if err != nil {
			return nil, fault.Invalid("%w", err)
		}
	}
	if reference.FamiliarName(ref) == "scratch" {
		return nil, fault.Forbidden("'scratch' is a reserved name")
	}
	return ref, nil
}

// Pull fetches an image, or all of a repository, with docker's progress. Pulls of the same image share the work.
func (s *Service) Pull(ctx context.Context, o PullOptions, emit Emit) error {
	ref, err := PullRef(o.Image, o.Tag)
	if err != nil {
		return err
	}
	if !reference.IsNameOnly(ref) {
		return s.pullShared(ctx, ref, o, emit)
	}
	repo, err := s.client.Repository(ctx, ref, o.Auth, registryclient.Pull)
	if err != nil {
		return pullError(ref, err)
	}
	defer repo.Close()
	tags, err := repo.Tags(ctx)
	if err != nil {
		return pullError(ref, err)
	}
	for _, t := range tags {
		tagged, err := reference.WithTag(ref, t)
		if err != nil {
			s.cfg.Log.Warn("invalid tag not pulled", "repo", ref.Name(), "tag", t)
			continue
		}
		if err := s.pullShared(ctx, tagged, o, emit); err != nil {
			return err
		}
	}
	return nil
}

// pullShared joins a pull of the same reference and platform with the same credentials.
func (s *Service) pullShared(ctx context.Context, ref reference.Named, o PullOptions, emit Emit) error {
	h := sha256.New()
	h.Write([]byte(ref.String()))
	if o.Platform != nil {
		h.Write([]byte("\x00" + platforms.FormatAll(*o.Platform)))
	}
	if o.Auth != nil {
		for _, v := range []string{o.Auth.Username, o.Auth.Password, o.Auth.IdentityToken, o.Auth.RegistryToken} {
			h.Write([]byte("\x00" + v))
		}
	}
	return s.pulls.do(ctx, hex.EncodeToString(h.Sum(nil)), emit, func(ctx context.Context, emit Emit) error {
		return s.pullOne(ctx, ref, o, emit)
	})
}

// pullOne tries mirrors, then the registry.
func (s *Service) pullOne(ctx context.Context, ref reference.Named, o PullOptions, emit Emit) error {
	repos, err := s.client.Repositories(ctx, ref, o.Auth, registryclient.Pull)
	if err != nil {
		return err
	}
	var last error
	for _, repo := range repos {
		if last == nil || ctx.Err() == nil && again(last) {
			last = s.pullFrom(ctx, repo, ref, o, emit)
			if last == nil {
				break
			}
		}
	}
	for _, repo := range repos {
		repo.Close()
	}
	if last != nil {
		return pullError(ref, last)
	}
	return nil
}

// again tells that another way to the registry may do better: nothing was received from this one yet.
func again(err error) bool {
	var f fetchError
	return !errors.As(err, &f)
}

// fetchError marks failures after the manifest was found.
type fetchError struct{ error }

// Unwrap gives the cause.
func (f fetchError) Unwrap() error { return f.error }

func (s *Service) pullFrom(ctx context.Context, repo *registryclient.Repository, ref reference.Named, o PullOptions, emit Emit) error {
	if err := repo.Ping(ctx); err != nil {
		return err
	}
	name, tag := reference.Path(ref), ""
	switch r := ref.(type) {
	case reference.Digested:
		tag = r.Digest().String()
	case reference.Tagged:
		tag = r.Tag()
	}
	ctx, release, err := s.store.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	target, body, err := repo.Manifest(ctx, tag)
	if err != nil {
		return err
	}
	shown := tag
	if _, ok := ref.(reference.Digested); ok {
		shown = ref.String()
	}
	if err := emit(statusOnly(shown, "Pulling from "+name)); err != nil {
		return err
	}
	f := &fetch{svc: s, repo: repo, ref: ref, platform: o.Platform, emit: emit}
	if err := f.run(ctx, target, body); err != nil {
		return fetchError{err}
	}
	return s.finishPull(ctx, ref, target, emit)
}

// finishPull names what was pulled and says so.
func (s *Service) finishPull(ctx context.Context, ref reference.Named, target ocispec.Descriptor, emit Emit) error {
	links, err := s.store.Links(ctx, target)
	if err != nil {
		return err
	}
	name := ref
	if d, ok := ref.(reference.Digested); ok { // name:tag@digest is known by its digest
		if name, err = reference.WithDigest(reference.TrimNamed(ref), d.Digest()); err != nil {
			return fault.Invalid("%w", err)
		}
	}
	s.names.Lock()
	old := s.cat.Named(name.String())
	err = s.apply(ctx, change{
		put:   []c8images.Image{{Name: name.String(), Target: target, CreatedAt: now()}},
		links: []map[digest.Digest]map[string]string{links}, reread: true,
	})
	s.names.Unlock()
	if err != nil {
		return err
	}
	familiar := reference.FamiliarString(ref)
	s.publish(ctx, events.ActionPull, familiar, reference.FamiliarName(ref), labels(s.cat.Target(target.Digest)))
	if err := emit(statusOnly("", "Digest: "+target.Digest.String())); err != nil {
		return err
	}
	if old != nil && old.ID() == target.Digest {
		return emit(statusOnly("", "Status: Image is up to date for "+familiar))
	}
	return emit(statusOnly("", "Status: Downloaded newer image for "+familiar))
}

// pullError puts a failed pull into docker's words.
func pullError(ref reference.Named, err error) error {
	var re *registryclient.Error
	if !errors.As(err, &re) {
		var f fetchError
		if errors.As(err, &f) {
			err = f.error
		}
		if errdefs.IsUnknown(err) || errdefs.IsUnauthorized(err) {
			return fault.Internal("%w", err)
		}
		return err
	}
	switch re.Code {
	case "DENIED", "UNAUTHORIZED", "NAME_UNKNOWN":
		return fault.NotFound("pull access denied for %s, repository does not exist or may require 'docker login': %w", reference.FamiliarName(ref), re)
	case "MANIFEST_UNKNOWN":
		return fault.NotFound("manifest for %s not found: %w", reference.FamiliarString(ref), re)
	}
	return registryError(re)
}

// registryError is any other answer of a registry, with the status that docker gives it.
func registryError(re *registryclient.Error) error {
	class := re.Unwrap()
	if errdefs.IsUnavailable(class) || errdefs.IsUnknown(class) {
		return fault.Internal("error from registry: %w", re)
	}
	return fault.New(class, "error from registry: %w", re)
}

func noMatch(p *ocispec.Platform) error {
	host := catalog.Host()
	if p == nil {
		p = &host
	}
	return fault.NotFound("no matching manifest for %s in the manifest list entries", platforms.FormatAll(*p))
}
