package images

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"longshore/internal/core/fault"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/catalog"
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
	if err := emit(statusOnly("", "The push refers to repository ["+ref.Name()+"]")); err != nil {
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

// upload is one tag on its way out.
type upload struct {
	svc  *Service
	repo *registryclient.Repository
	ref  reference.Named
	emit Emit
}

func (s *Service) pushTag(ctx context.Context, ref reference.Named, o PushOptions, emit Emit) error {
	e := s.cat.Named(ref.String())
	if e == nil {
		return fault.NotFound("tag does not exist: %s", reference.FamiliarString(ref))
	}
	target, manifests, err := outgoing(e, o.Platform)
	if err != nil {
		return err
	}
	ctx, release, err := s.store.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	repo, err := s.client.Repository(ctx, ref, o.Auth, registryclient.Push)
	if err != nil {
		return pushError(err)
	}
	defer repo.Close()
	u := &upload{svc: s, repo: repo, ref: ref, emit: serial(emit)}
	if err := u.run(ctx, e, target, manifests); err != nil {
		return pushError(err)
	}
	tag := "latest"
	if t, ok := ref.(reference.Tagged); ok {
		tag = t.Tag()
	}
	s.publish(ctx, events.ActionPush, reference.FamiliarString(ref), reference.FamiliarName(ref), labels(e))
	if err := emit(statusOnly("", tag+": digest: "+target.Digest.String()+" size: "+itoa(target.Size))); err != nil {
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

// pushResult is docker's machine-readable end of a push.
type pushResult struct {
	Tag, Digest string
	Size        int64
}

type auxLine struct {
	Progress struct{} `json:"progressDetail"`
	Aux      any      `json:"aux"`
}

// outgoing picks what is pushed: the image as it is when all of it is here, else the variant for this host.
func outgoing(e *catalog.Entry, p *ocispec.Platform) (ocispec.Descriptor, []*catalog.Manifest, error) {
	if p != nil {
		m, err := e.Best(p)
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		return m.Desc, []*catalog.Manifest{m}, nil
	}
	var here []*catalog.Manifest
	for _, m := range e.Manifests {
		if m.Available || m.Kind != image.ManifestKindImage && len(m.Blobs) > len(m.Layers) {
			here = append(here, m)
		}
	}
	if len(here) == len(e.Manifests) && len(here) > 0 {
		return e.Target, here, nil
	}
	best, err := e.Best(nil)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	images := 0
	for _, m := range here {
		if m.Kind == image.ManifestKindImage {
			images++
		}
	}
	if images > 1 && !platforms.Default().Match(best.Platform) {
		return ocispec.Descriptor{}, nil, fault.Conflict("multiple matching manifests found but no specific platform requested")
	}
	return best.Desc, []*catalog.Manifest{best}, nil
}

// run sends blobs, then manifests, then the index, then the tag.
func (u *upload) run(ctx context.Context, e *catalog.Entry, target ocispec.Descriptor, manifests []*catalog.Manifest) error {
	var blobs []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, m := range manifests {
		for _, d := range append(slices.Clone(m.Layers), m.Config) {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				blobs = append(blobs, d)
			}
		}
	}
	u.allowMounts(ctx, blobs)
	for _, b := range blobs {
		if c8images.IsLayerType(b.MediaType) {
			if err := u.emit(statusLine(shortDigest(b.Digest.String()), "Preparing")); err != nil {
				return err
			}
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(u.svc.cfg.MaxUploads)
	for _, b := range blobs {
		g.Go(func() error { return u.blob(gctx, b) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, m := range manifests {
		if m.Desc.Digest != target.Digest {
			if err := u.manifest(ctx, m.Desc, m.Desc.Digest.String()); err != nil {
				return err
			}
		}
	}
	if target.Digest == e.ID() {
		if err := u.inner(ctx, target); err != nil {
			return err
		}
	}
	tag := target.Digest.String()
	if t, ok := u.ref.(reference.Tagged); ok {
		tag = t.Tag()
	}
	if err := u.manifest(ctx, target, tag); err != nil {
		return err
	}
	for _, d := range append(blobs, target) {
		if err := u.svc.store.Label(ctx, d.Digest, sourceLabel(ctx, u.svc.store, u.ref, d.Digest)); err != nil {
			u.svc.cfg.Log.Warn("source of pushed blob not recorded", "digest", d.Digest, "error", err)
		}
	}
	return nil
}

// inner sends indexes that lie within an index, innermost first.
func (u *upload) inner(ctx context.Context, d ocispec.Descriptor) error {
	if !c8images.IsIndexType(d.MediaType) {
		return nil
	}
	var idx ocispec.Index
	if err := catalog.ReadJSON(ctx, u.svc.store.Content(), d, &idx); err != nil {
		return err
	}
	for _, m := range idx.Manifests {
		if !c8images.IsIndexType(m.MediaType) {
			continue
		}
		if err := u.inner(ctx, m); err != nil {
			return err
		}
		if err := u.manifest(ctx, m, m.Digest.String()); err != nil {
			return err
		}
	}
	return nil
}

func (u *upload) manifest(ctx context.Context, d ocispec.Descriptor, tag string) error {
	body, err := u.svc.store.ReadBytes(ctx, d, 8<<20)
	if err != nil {
		return err
	}
	return u.repo.PutManifest(ctx, tag, d, body)
}

// sources are repositories of the same registry that have a blob.
func (u *upload) sources(ctx context.Context, d digest.Digest) []string {
	info, err := u.svc.store.Content().Info(ctx, d)
	if err != nil {
		return nil
	}
	var out []string
	for r := range strings.SplitSeq(info.Labels[catalog.SourceLabel+reference.Domain(u.ref)], ",") {
		if r != "" && r != u.repo.Path {
			out = append(out, r)
		}
	}
	return out
}

func (u *upload) allowMounts(ctx context.Context, blobs []ocispec.Descriptor) {
	for _, b := range blobs {
		if src := u.sources(ctx, b.Digest); len(src) > 0 {
			u.repo.AllowMounts(src[0])
		}
	}
}

func (u *upload) blob(ctx context.Context, d ocispec.Descriptor) error {
	id := shortDigest(d.Digest.String())
	say := func(v any) error {
		if !c8images.IsLayerType(d.MediaType) {
			return nil
		}
		return u.emit(v)
	}
	if c8images.IsNonDistributable(d.MediaType) && !u.svc.store.Has(ctx, d.Digest) {
		return say(statusLine(id, "Skipped foreign layer"))
	}
	have, err := u.repo.HasBlob(ctx, d.Digest)
	if err != nil {
		return err
	}
	if have {
		return say(statusLine(id, "Layer already exists"))
	}
	from := ""
	if src := u.sources(ctx, d.Digest); len(src) > 0 {
		from = src[0]
	}
	mounted, err := u.repo.Upload(ctx, d, from, func() (io.ReadCloser, error) {
		ra, err := u.svc.store.Content().ReaderAt(ctx, d)
		if err != nil {
			return nil, err
		}
		m := &meter{r: io.NewSectionReader(ra, 0, ra.Size()), total: d.Size, step: max(d.Size/200, 256<<10), tell: func(done int64) error {
			return say(progressLine(id, "Pushing", done, d.Size))
		}}
		return readCloser{m, ra}, nil
	})
	if err != nil {
		return err
	}
	if mounted {
		return say(statusLine(id, "Mounted from "+from))
	}
	return say(statusLine(id, "Pushed"))
}

type readCloser struct {
	io.Reader
	io.Closer
}

// pushError puts a failed push into docker's words.
func pushError(err error) error {
	var re *registryclient.Error
	if !errors.As(err, &re) {
		return err
	}
	switch re.Code {
	case "DENIED", "UNAUTHORIZED":
		return fault.New(re.Unwrap(), "%w", re)
	}
	return registryError(re)
}
