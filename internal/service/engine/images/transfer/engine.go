package transfer

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/driver/ctdstore/partial"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/catalog"
)

// keepPartial is how long what has come of a blob waits for a fetch that goes on with it.
const keepPartial = 24 * time.Hour

// Engine fetches and sends. It is safe for concurrent use.
type Engine struct {
	Store  *ctdstore.Store
	Client *registryclient.Client
	Log    *slog.Logger
	// Neighbour is the registry in this process; nil: there is none.
	Neighbour Neighbour

	partial            *partial.Store // what has come of blobs
	downloads, uploads Slots
	attempts           atomic.Int64 // of one download
	blobs              keyedLock    // one download per blob
}

// Limits bound what fetches and sends do; 0 means docker's default.
type Limits struct {
	// Downloads and Uploads are how many blobs are transferred at a time by the whole engine: 3 and 5.
	Downloads, Uploads int
	// Attempts is how often the download of one of them is tried: 5.
	Attempts int
}

// New gives an engine with docker's limits. Broken downloads are kept below the store's directory.
func New(store *ctdstore.Store, client *registryclient.Client, neighbour Neighbour, log *slog.Logger) *Engine {
	e := &Engine{Store: store, Client: client, Neighbour: neighbour, Log: log}
	e.partial = partial.New(filepath.Join(store.Root(), "downloads"))
	e.SetLimits(Limits{})
	return e
}

// SetLimits puts limits into force for what begins from now on.
func (e *Engine) SetLimits(l Limits) {
	e.downloads.SetLimit(cmp.Or(max(l.Downloads, 0), 3))
	e.uploads.SetLimit(cmp.Or(max(l.Uploads, 0), 5))
	e.attempts.Store(int64(cmp.Or(max(l.Attempts, 0), 5)))
}

// Prune removes broken downloads that nobody goes on with just now, and tells how many bytes that freed.
func (e *Engine) Prune() (int64, error) { return e.partial.Sweep(time.Now()) }

// Run removes broken downloads that nobody went on with, until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		freed, err := e.partial.Sweep(time.Now().Add(-keepPartial))
		if err != nil {
			e.Log.Warn("broken downloads not removed", "error", err)
		} else if freed > 0 {
			e.Log.Info("broken downloads removed", "bytes", freed)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Options says what is transferred, and as whom.
type Options struct {
	Ref reference.Named
	// Platform nil means this host's for a fetch, and all that is here for a send.
	Platform *ocispec.Platform
	// Auth are the client's credentials; may be nil.
	Auth *registry.AuthConfig
	// Known is what the reference names here already; a fetch that finds nothing newer says nothing of layers.
	Known digest.Digest
}

// Fetch brings an image's content here, unpacks it, and gives its target. Mirrors are asked first.
func (e *Engine) Fetch(ctx context.Context, o Options, emit Emit) (ocispec.Descriptor, error) {
	repos, err := e.Client.Repositories(ctx, o.Ref, o.Auth, registryclient.Pull)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	from := newSources(repos)
	defer from.Close()
	f := &fetch{Engine: e, from: from, party: e.downloads.party(), ref: o.Ref, platform: o.Platform, emit: emit}
	target, err := f.all(ctx, o.Known)
	if err != nil {
		return ocispec.Descriptor{}, pullError(o.Ref, err)
	}
	return target, nil
}

// all finds what the reference means and fetches it.
func (f *fetch) all(ctx context.Context, known digest.Digest) (none ocispec.Descriptor, err error) {
	tag, usable := "", resolves
	switch r := f.ref.(type) {
	case reference.Digested:
		tag, usable = r.Digest().String(), holds
	case reference.Tagged:
		tag = r.Tag()
	}
	target, body, err := f.lookUp(ctx, tag, usable)
	if err != nil {
		return none, err
	}
	shown := tag
	if _, ok := f.ref.(reference.Digested); ok {
		shown = f.ref.String()
	}
	if err := f.emit(Message(shown, "Pulling from "+reference.Path(f.ref))); err != nil {
		return none, err
	}
	f.quiet = target.Digest == known
	return target, f.run(ctx, target, body)
}

// lookUp fetches a manifest or index from the first source that has it, patiently.
func (f *fetch) lookUp(ctx context.Context, tag string, usable func(*source) bool) (d ocispec.Descriptor, body []byte, err error) {
	p := patience{attempts: int(f.attempts.Load()), tell: retrying(f.emit, tag), log: f.Log}
	err = p.try(ctx, func() (int64, error) {
		return 0, f.from.each(ctx, usable, func(src *source) (err error) {
			d, body, err = src.Manifest(ctx, tag)
			return err
		}, nil)
	})
	return d, body, err
}

// Tags lists the tags of a repository.
func (e *Engine) Tags(ctx context.Context, o Options) ([]string, error) {
	repos, err := e.Client.Repositories(ctx, o.Ref, o.Auth, registryclient.Pull)
	if err != nil {
		return nil, err
	}
	from := newSources(repos)
	defer from.Close()
	var tags []string
	p := patience{attempts: int(e.attempts.Load()), log: e.Log}
	err = p.try(ctx, func() (int64, error) {
		return 0, from.each(ctx, resolves, func(src *source) (err error) {
			tags, err = src.Tags(ctx)
			return err
		}, nil)
	})
	if err != nil {
		return nil, pullError(o.Ref, err)
	}
	return tags, nil
}

// pullError puts a failed pull into docker's words.
func pullError(ref reference.Named, err error) error {
	var re *registryclient.Error
	if !errors.As(err, &re) {
		if errdefs.IsUnknown(err) || errdefs.IsUnauthorized(err) {
			// Without the cause: its class would make it a 401, on which the docker CLI asks for a password.
			return fault.Internal("%s", err)
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
