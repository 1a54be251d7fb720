package images

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/transfer"
)

// PushOptions describes a push.
type PushOptions struct {
	// Image is the repository; Tag one of its tags, all of them when empty.
	Image, Tag string
	// Platform pushes only this variant's manifest; nil pushes all that is here.
	Platform *ocispec.Platform
	Auth     *registry.AuthConfig
}

// Push sends an image, or all tags of a repository, with docker's progress. Manifests go out byte for byte, so that
// the image keeps its digest.
func (s *Service) Push(ctx context.Context, o PushOptions, emit Emit) error {
	ref, err := reference.ParseNormalizedNamed(o.Image)
	if err != nil {
		return fault.Invalid("%w", err)
	}
	if o.Tag != "" {
		if ref, err = reference.WithTag(reference.TrimNamed(ref), o.Tag); err != nil {
			return fault.Invalid("%w", err)
		}
	}
	if _, digested := ref.(reference.Digested); digested {
		return fault.Invalid("cannot push a digest reference")
	}
	refs := []reference.Named{ref}
	if reference.IsNameOnly(ref) {
		if refs = s.tagsOf(ref); len(refs) == 0 {
			return fault.NotFound("An image does not exist locally with the tag: %s", reference.FamiliarName(ref))
		}
	}
	if s.cat.Named(refs[0].String()) == nil {
		if len(s.tagsOf(ref)) == 0 {
			return fault.NotFound("An image does not exist locally with the tag: %s", reference.FamiliarName(ref))
		}
		return fault.NotFound("tag does not exist: %s", reference.FamiliarString(ref))
	}
	if err := emit(transfer.Message("", "The push refers to repository ["+ref.Name()+"]")); err != nil {
		return err
	}
	for _, r := range refs {
		if err := s.pushTag(ctx, r, o, emit); err != nil {
			return err
		}
	}
	return nil
}

// tagsOf lists a repository's tagged references, sorted.
func (s *Service) tagsOf(repo reference.Named) []reference.Named {
	var out []reference.Named
	for _, e := range s.cat.All() {
		for _, n := range e.Refs() {
			if _, tagged := n.Ref.(reference.Tagged); tagged && n.Ref.Name() == repo.Name() {
				out = append(out, n.Ref)
			}
		}
	}
	slices.SortFunc(out, func(a, b reference.Named) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func (s *Service) pushTag(ctx context.Context, ref reference.Named, o PushOptions, emit Emit) error {
	e := s.cat.Named(ref.String())
	if e == nil {
		return fault.NotFound("tag does not exist: %s", reference.FamiliarString(ref))
	}
	ctx, release, err := s.store.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.store.Hold(ctx, slices.Collect(maps.Keys(e.Blobs()))...); err != nil {
		return err
	}
	target, err := s.remote.Send(ctx, e, transfer.Options{Ref: ref, Platform: o.Platform, Auth: o.Auth}, emit)
	if err != nil {
		return err
	}
	s.pushed(ctx, e.ID())
	tag := "latest"
	if t, ok := ref.(reference.Tagged); ok {
		tag = t.Tag()
	}
	s.publish(ctx, events.ActionPush, reference.FamiliarString(ref), reference.FamiliarName(ref), labels(e))
	size := strconv.FormatInt(target.Size, 10)
	if err := emit(transfer.Message("", tag+": digest: "+target.Digest.String()+" size: "+size)); err != nil {
		return err
	}
	if target.Digest != e.ID() && o.Platform == nil {
		aux := auxprogress.ManifestPushedInsteadOfIndex{ManifestPushedInsteadOfIndex: true, OriginalIndex: e.Target, SelectedManifest: target}
		if err := emit(auxLine{Aux: aux}); err != nil {
			return err
		}
	}
	return emit(auxLine{Aux: pushResult{Tag: tag, Digest: target.Digest.String(), Size: target.Size}})
}

// pushed reads an image's origins again: a push adds one.
func (s *Service) pushed(ctx context.Context, id digest.Digest) {
	s.names.Lock()
	defer s.names.Unlock()
	if err := s.refresh(ctx, map[digest.Digest]bool{id: true}, true); err != nil {
		s.cfg.Log.Warn("image catalog not refreshed", "digest", id, "error", err)
	}
}

// pushResult is docker's machine-readable end of a push.
type pushResult struct {
	Tag, Digest string
	Size        int64
}

type auxLine struct {
	Progress struct{} `json:"progressDetail"`
	Aux      any      `json:"aux"`
}
