package transfer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/driver/registryclient"
	"longshore/internal/service/engine/images/catalog"
)

// Engine fetches and sends. Fill its exported fields before the first use; it is safe for concurrent use then.
type Engine struct {
	Store  *ctdstore.Store
	Client *registryclient.Client
	Log    *slog.Logger
	// MaxDownloads and MaxUploads bound the layers transferred at a time by one fetch or send.
	MaxDownloads, MaxUploads atomic.Int64
	// Neighbour is the registry in this process; nil: there is none.
	Neighbour Neighbour

	blobs keyedLock // one download per blob
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
	defer func() {
		for _, r := range repos {
			r.Close()
		}
	}()
	var last error
	for _, repo := range repos {
		target, err := e.fetchFrom(ctx, repo, o, emit)
		if err == nil {
			return target, nil
		}
		last = err
		if ctx.Err() != nil || !again(err) {
			break
		}
	}
	return ocispec.Descriptor{}, pullError(o.Ref, last)
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

func (e *Engine) fetchFrom(ctx context.Context, repo *registryclient.Repository, o Options, emit Emit) (none ocispec.Descriptor, err error) {
	if err := repo.Ping(ctx); err != nil {
		return none, err
	}
	ref := o.Ref
	name, tag := reference.Path(ref), ""
	switch r := ref.(type) {
	case reference.Digested:
		tag = r.Digest().String()
	case reference.Tagged:
		tag = r.Tag()
	}
	target, body, err := repo.Manifest(ctx, tag)
	if err != nil {
		return none, err
	}
	shown := tag
	if _, ok := ref.(reference.Digested); ok {
		shown = ref.String()
	}
	if err := emit(Message(shown, "Pulling from "+name)); err != nil {
		return none, fetchError{err}
	}
	f := &fetch{Engine: e, repo: repo, ref: ref, platform: o.Platform, emit: emit, quiet: target.Digest == o.Known}
	if err := f.run(ctx, target, body); err != nil {
		return none, fetchError{err}
	}
	return target, nil
}

// Tags lists the tags of a repository.
func (e *Engine) Tags(ctx context.Context, o Options) ([]string, error) {
	repo, err := e.Client.Repository(ctx, o.Ref, o.Auth, registryclient.Pull)
	if err != nil {
		return nil, pullError(o.Ref, err)
	}
	defer repo.Close()
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, pullError(o.Ref, err)
	}
	return tags, nil
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
