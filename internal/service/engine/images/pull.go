package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/transfer"
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
	remote := transfer.Options{Ref: ref, Platform: o.Platform, Auth: o.Auth}
	if !reference.IsNameOnly(ref) {
		return s.pullShared(ctx, remote, emit)
	}
	tags, err := s.remote.Tags(ctx, remote)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if remote.Ref, err = reference.WithTag(ref, t); err != nil {
			s.cfg.Log.Warn("invalid tag not pulled", "repo", ref.Name(), "tag", t)
			continue
		}
		if err := s.pullShared(ctx, remote, emit); err != nil {
			return err
		}
	}
	return nil
}

// pullShared joins a pull of the same reference and platform with the same credentials.
func (s *Service) pullShared(ctx context.Context, o transfer.Options, emit Emit) error {
	h := sha256.New()
	h.Write([]byte(o.Ref.String()))
	if o.Platform != nil {
		h.Write([]byte("\x00" + platforms.FormatAll(*o.Platform)))
	}
	if o.Auth != nil {
		for _, v := range []string{o.Auth.Username, o.Auth.Password, o.Auth.IdentityToken, o.Auth.RegistryToken} {
			h.Write([]byte("\x00" + v))
		}
	}
	return s.pulls.Do(ctx, hex.EncodeToString(h.Sum(nil)), emit, func(ctx context.Context, emit Emit) error {
		ctx, release, err := s.store.Lease(ctx)
		if err != nil {
			return err
		}
		defer release()
		if e := s.cat.Named(o.Ref.String()); e != nil {
			o.Known = e.ID()
		}
		target, err := s.remote.Fetch(ctx, o, emit)
		if err != nil {
			return err
		}
		return s.finishPull(ctx, o.Ref, target, emit)
	})
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
	if err := emit(transfer.Message("", "Digest: "+target.Digest.String())); err != nil {
		return err
	}
	if old != nil && old.ID() == target.Digest {
		return emit(transfer.Message("", "Status: Image is up to date for "+familiar))
	}
	return emit(transfer.Message("", "Status: Downloaded newer image for "+familiar))
}
