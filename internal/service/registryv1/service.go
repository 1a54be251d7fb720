// Package registryv1 is the registry for clients of registry API v1, without HTTP: images by their 64-digit names, with
// parents, pushed one by one and tagged at the end. It has no content of its own. A layer that is pushed becomes a blob of
// the registry, and the tag a manifest of schema 2 that clients of today pull; what those push is shown as images.
//
//	s := registryv1.New(registry, graph, registryv1.Config{})
//	err := s.PutJSON(ctx, caller, id, document, "")
//	err = s.PutLayer(ctx, caller, id, body, "")
//	err = s.PutTag(ctx, caller, "team/app", "latest", id)
//
// It knows no users: the server authorises, and tells by Caller what somebody may see. Errors have the old registry's words.
package registryv1

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/fault"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

// Manifest is a manifest of the registry.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Payload   []byte
}

// Registry is the registry below. Its errors are those of service/registry.
type Registry interface {
	// Manifest finds by tag or digest; pull counts it as a pull.
	Manifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference, pull bool) (Manifest, error)
	// PutManifest stores a manifest and points tags at it.
	PutManifest(ctx context.Context, repo distribution.RepoName, m Manifest, tags ...distribution.Tag) (digest.Digest, error)
	DeleteTag(ctx context.Context, repo distribution.RepoName, tag distribution.Tag) error
	DeleteRepository(ctx context.Context, repo distribution.RepoName) error
	Open(ctx context.Context, repo distribution.RepoName, d digest.Digest) (blob.Content, error)
	// Keep streams body into a blob of the repository. sum is called when the body has ended, and gives its digest, or the
	// error that is to be returned; nothing is left then.
	Keep(ctx context.Context, repo distribution.RepoName, body io.Reader, sum func() (digest.Digest, error)) (blob.Info, error)
	// Share makes a blob of from visible in to, whatever stores they are in.
	Share(ctx context.Context, from, to distribution.RepoName, d digest.Digest) error
}

// Config is what an administrator decides.
type Config struct {
	// MaxRepos refuses pushes that would make more repositories; 0 is no limit.
	MaxRepos int
	// Logger gets what fails in the background; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Service is the registry of v1. Make it with New, run its background with Run.
type Service struct {
	registry Registry
	graph    graph.Store
	cfg      Config
	// sending holds the images whose layers are being sent: place -> struct{}.
	sending sync.Map
	wake    chan struct{} // one slot: Run is to look for checksums
}

// New makes a service; it starts nothing.
func New(r Registry, g graph.Store, cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{registry: r, graph: g, cfg: cfg, wake: make(chan struct{}, 1)}
}

// Caller is who asks, as far as images are concerned: their names are known to all repositories.
type Caller struct {
	// Repo is the repository that a session is for; nothing else is changed then. Empty without a session.
	Repo distribution.RepoName
	// Narrow sessions see nothing else either.
	Narrow bool
	// User keeps apart what has no repository yet.
	User string
	// Readable says which repositories a caller that is not narrow may read; nil means all.
	Readable func(distribution.RepoName) bool
}

// staging begins the names of repositories of images that no tag has given to a repository yet. No client can name one.
const staging = "_v1"

// place is where the caller's pushes go.
func (c Caller) place() distribution.RepoName {
	switch {
	case c.Repo != "":
		return c.Repo
	case c.User == "":
		return staging
	}
	return distribution.RepoName(staging + "/" + digest.FromString(c.User).Encoded()[:32])
}

// The old registry's words.
var (
	errImage    = fault.NotFound("Image not found")
	errExists   = fault.Conflict("Image already exists")
	errProgress = fault.Conflict("Image is being uploaded, retry later")
	errTag      = fault.NotFound("Tag not found")
	errRepo     = fault.NotFound("Repository not found")
	errLayer    = fault.Invalid("Layer format not supported")
	errMismatch = fault.Invalid("Checksum mismatch, ignoring the layer")
)

// errChecksum is class 412.
var errChecksum = fault.New(precondition{}, "Missing Image's checksum")

type precondition struct{}

func (precondition) Error() string   { return "precondition failed" }
func (precondition) HTTPStatus() int { return http.StatusPreconditionFailed }

// found is an image and the repository in which it was found.
type found struct {
	repo distribution.RepoName
	graph.Image
}

// find looks for an image where the caller may see one, complete ones first.
func (s *Service) find(ctx context.Context, c Caller, id imagev1.ID) (found, error) {
	f := found{repo: c.place()}
	var err error
	f.Image, err = s.graph.Image(ctx, f.repo, id)
	if err == nil && f.State == graph.Complete || c.Narrow || err != nil && !errdefs.IsNotFound(err) {
		return f, told(err, errImage)
	}
	unfinished := err == nil
	repos, err := s.graph.Holding(ctx, id, -1)
	if err != nil {
		return f, err
	}
	for _, repo := range repos {
		if strings.HasPrefix(string(repo), staging) || c.Readable != nil && !c.Readable(repo) {
			continue
		}
		i, err := s.graph.Image(ctx, repo, id)
		switch {
		case errdefs.IsNotFound(err):
		case err != nil:
			return f, err
		case i.State == graph.Complete:
			return found{repo, i}, nil
		case !unfinished:
			f, unfinished = found{repo, i}, true
		}
	}
	if !unfinished {
		return f, errImage
	}
	return f, nil
}

// complete is find for images that can be had.
func (s *Service) complete(ctx context.Context, c Caller, id imagev1.ID) (found, error) {
	f, err := s.find(ctx, c, id)
	if err == nil && f.State != graph.Complete {
		return f, errProgress
	}
	return f, err
}

// told replaces "not found".
func told(err, notFound error) error {
	if errdefs.IsNotFound(err) {
		return notFound
	}
	return err
}

// JSON is an image's document with what the headers tell of it.
type JSON struct {
	Document []byte
	// Size is that of the layer as it is served; -1 when nobody knows.
	Size int64
	// Payload is the checksum of document and layer; empty when it is not known yet.
	Payload string
}

// JSON gives an image's document.
func (s *Service) JSON(ctx context.Context, c Caller, id imagev1.ID) (JSON, error) {
	f, err := s.complete(ctx, c, id)
	if err != nil {
		return JSON{}, err
	}
	return JSON{Document: f.JSON, Size: servedSize(f.Image), Payload: known(f.Payload)}, nil
}

// Readable says whether the caller may have an image that is complete; it is JSON without the document.
func (s *Service) Readable(ctx context.Context, c Caller, id imagev1.ID) error {
	_, err := s.complete(ctx, c, id)
	return err
}

// maxAncestry bounds chains of parents. Docker's storage drivers ended at 127.
const maxAncestry = 1000

// Ancestry lists an image and its parents, the base last.
func (s *Service) Ancestry(ctx context.Context, c Caller, id imagev1.ID) ([]imagev1.ID, error) {
	list, err := s.ancestry(ctx, c, id)
	if err != nil {
		return nil, err
	}
	ids := make([]imagev1.ID, len(list))
	for n := range list {
		ids[n] = list[n].ID
	}
	return ids, nil
}

func (s *Service) ancestry(ctx context.Context, c Caller, id imagev1.ID) ([]found, error) {
	var list []found
	for id != "" {
		if len(list) == maxAncestry {
			return nil, fault.Invalid("Image depends on more than %d parents", maxAncestry)
		}
		f, err := s.near(ctx, c, list, id)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 && f.State != graph.Complete {
			return nil, errProgress
		}
		list = append(list, f)
		id = f.Parent
	}
	return list, nil
}

// near looks for a parent where the child was found, then everywhere.
func (s *Service) near(ctx context.Context, c Caller, children []found, id imagev1.ID) (found, error) {
	if len(children) > 0 {
		repo := children[len(children)-1].repo
		i, err := s.graph.Image(ctx, repo, id)
		if err == nil || !errdefs.IsNotFound(err) {
			return found{repo, i}, err
		}
	}
	return s.find(ctx, c, id)
}

// DeleteTag deletes a tag.
func (s *Service) DeleteTag(ctx context.Context, repo distribution.RepoName, tag string) error {
	t, err := distribution.ParseTag(tag)
	if err != nil {
		return errTag
	}
	return told(s.registry.DeleteTag(ctx, repo, t), errTag)
}

// DeleteRepository deletes a repository with everything in it, and what the index knows of it.
func (s *Service) DeleteRepository(ctx context.Context, repo distribution.RepoName) error {
	there, err := s.Has(ctx, repo, time.Time{})
	if err != nil {
		return err
	}
	if err := told(s.registry.DeleteRepository(ctx, repo), errRepo); err != nil || there {
		return err
	}
	return errRepo // what no tag has named was not seen
}

// Private says whether a repository calls itself private; it is said in its properties.
func (s *Service) Private(ctx context.Context, repo distribution.RepoName) (bool, error) {
	r, err := s.graph.Repository(ctx, repo)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return r.Private, err
}

// SetPrivate sets what Private says. Access policies alone decide who may read.
func (s *Service) SetPrivate(ctx context.Context, repo distribution.RepoName, private bool) error {
	err := s.graph.ChangeRepository(ctx, repo, s.cfg.Now(), func(r *graph.Repository) error { r.Private = private; return nil })
	if err != nil {
		return fmt.Errorf("properties: %w", err)
	}
	return nil
}

// Has says whether a repository has tags that were set after a time.
func (s *Service) Has(ctx context.Context, repo distribution.RepoName, after time.Time) (bool, error) {
	tops, err := s.graph.Tops(ctx, repo)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return slices.ContainsFunc(tops, func(t graph.TagTop) bool { return t.Pushed.After(after) }), err
}

// CheckAncestry compares what a client says of an image's parents with the documents: the image itself first.
func (s *Service) CheckAncestry(ctx context.Context, c Caller, id imagev1.ID, told []imagev1.ID) error {
	f, err := s.find(ctx, c, id)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n >= len(told) || told[n] != f.ID {
			return fault.Invalid("Invalid data")
		}
		if f.Parent == "" {
			if n != len(told)-1 {
				return fault.Invalid("Invalid data")
			}
			return nil
		}
		if f, err = s.find(ctx, c, f.Parent); err != nil {
			return err
		}
	}
}
