package transfer

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"longshore/internal/core/fault"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/catalog"
)

// Send sends an image under a reference, as it is when all of it is here, else the variant for this host. Manifests go
// out byte for byte. It gives the target that was sent.
func (e *Engine) Send(ctx context.Context, entry *catalog.Entry, o Options, emit Emit) (ocispec.Descriptor, error) {
	target, manifests, err := outgoing(entry, o.Platform)
	if err != nil {
		return target, err
	}
	repo, err := e.Client.Repository(ctx, o.Ref, o.Auth, registryclient.Push)
	if err != nil {
		return target, pushError(err)
	}
	defer repo.Close()
	u := &upload{Engine: e, repo: repo, party: e.uploads.party(), ref: o.Ref, emit: serial(emit)}
	if err := u.run(ctx, entry, target, manifests); err != nil {
		return target, pushError(err)
	}
	return target, nil
}

// upload is one image on its way out.
type upload struct {
	*Engine
	repo  *registryclient.Repository
	party *party
	ref   reference.Named
	emit  Emit
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
			if err := u.emit(State(catalog.Short(b.Digest.String()), "Preparing")); err != nil {
				return err
			}
		}
	}
	g, gctx := errgroup.WithContext(ctx)
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
		if err := u.Store.Label(ctx, d.Digest, sourceLabel(ctx, u.Store, u.ref, d.Digest)); err != nil {
			u.Log.Warn("source of pushed blob not recorded", "digest", d.Digest, "error", err)
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
	if err := catalog.ReadJSON(ctx, u.Store.Content(), d, &idx); err != nil {
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
	body, err := u.Store.ReadBytes(ctx, d, 8<<20)
	if err != nil {
		return err
	}
	p := patience{attempts: uploadAttempts, tell: retrying(u.emit, tag), unreachable: true, log: u.Log}
	return p.try(ctx, func() (int64, error) { return 0, u.repo.PutManifest(ctx, tag, d, body) })
}

// sources are repositories of the same registry that have a blob.
func (u *upload) sources(ctx context.Context, d digest.Digest) []string {
	info, err := u.Store.Content().Info(ctx, d)
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

// blob sends one blob, if the registry does not have it.
func (u *upload) blob(ctx context.Context, d ocispec.Descriptor) error {
	id := catalog.Short(d.Digest.String())
	say := func(v any) error {
		if !c8images.IsLayerType(d.MediaType) {
			return nil
		}
		return u.emit(v)
	}
	if c8images.IsNonDistributable(d.MediaType) && !u.Store.Has(ctx, d.Digest) {
		return say(State(id, "Skipped foreign layer"))
	}
	p := patience{attempts: uploadAttempts, tell: retrying(say, id), unreachable: true, log: u.Log}
	slot, err := u.party.take(ctx, func() error { return say(State(id, "Waiting")) })
	if err != nil {
		return err
	}
	defer slot.release()
	var have bool
	err = p.try(ctx, func() (_ int64, err error) {
		have, err = u.repo.HasBlob(ctx, d.Digest)
		return 0, err
	})
	if err != nil {
		return err
	}
	if have {
		return say(State(id, "Layer already exists"))
	}
	return u.send(ctx, d, say, p)
}

// send uploads a blob that the registry does not have, or has it mounted.
func (u *upload) send(ctx context.Context, d ocispec.Descriptor, say Emit, p patience) error {
	id, from := catalog.Short(d.Digest.String()), ""
	if src := u.sources(ctx, d.Digest); len(src) > 0 {
		from = src[0]
	}
	ticket, taken := u.offer(ctx, d)
	up := u.repo.NewUpload(d, func(offset int64) (io.ReadCloser, error) {
		ra, err := u.Store.Content().ReaderAt(ctx, d)
		if err != nil {
			return nil, err
		}
		r := io.NewSectionReader(ra, offset, ra.Size()-offset)
		m := &meter{r: r, done: offset, total: d.Size, step: max(d.Size/200, 256<<10), tell: func(done int64) error {
			return say(Line(id, "Pushing", done, d.Size))
		}}
		return readCloser{m, ra}, nil
	})
	var spared bool
	err := p.try(ctx, func() (_ int64, err error) {
		spared, err = up.Send(ctx, registryclient.Shortcut{From: from, Ticket: ticket})
		return 0, err
	})
	handed := taken()
	if err != nil {
		return err
	}
	if spared && !handed {
		return say(State(id, "Mounted from "+from))
	}
	return say(State(id, "Pushed"))
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
