package registry

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
)

// redirectValid is how long a redirected client may take to begin its GET.
const redirectValid = 20 * time.Minute

// linked finds the row of a blob that the repository links.
func (s *Service) linked(ctx context.Context, repo distribution.RepoName, d digest.Digest) (registryindex.Blob, error) {
	b, ok, gen := s.links.get(repo, d.String())
	if ok {
		return b, nil
	}
	b, err := s.index.Linked(ctx, repo, d)
	if err != nil {
		return b, s.fault(err, distribution.BlobUnknown(d))
	}
	s.links.put(repo, d.String(), b, gen)
	return b, nil
}

// StatBlob finds a blob that the repository links: BLOB_UNKNOWN else. A manifest's digest is found as well. A client that
// is told "it is there" may count on it: the link's grace period begins again.
func (s *Service) StatBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest) (blob.Info, error) {
	b, err := s.linked(ctx, repo, d)
	if errdefs.IsNotFound(err) {
		if m, merr := s.manifestAsBlob(ctx, repo, d); merr == nil {
			return blob.Info{Digest: d, Size: int64(len(m.Payload))}, nil
		}
	}
	if err != nil {
		return blob.Info{}, err
	}
	now := s.cfg.Now()
	if now.Sub(b.Added) > s.plan.Load().Delay/2 {
		err := s.index.Touch(ctx, repo, d, now)
		s.links.forget(repo, d.String())
		if err != nil {
			return blob.Info{}, s.fault(err, distribution.BlobUnknown(d))
		}
	}
	return blob.Info{Digest: d, Size: b.Size, Modified: b.Added}, nil
}

// OpenBlob opens a blob for reading; the caller closes it. Content.File is set when sendfile can be used.
func (s *Service) OpenBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest) (blob.Content, error) {
	b, err := s.linked(ctx, repo, d)
	if errdefs.IsNotFound(err) {
		if m, merr := s.manifestAsBlob(ctx, repo, d); merr == nil {
			return blob.Content{ReadSeekCloser: readCloser{bytes.NewReader(m.Payload)}, Size: int64(len(m.Payload))}, nil
		}
	}
	if err != nil {
		return blob.Content{}, err
	}
	store, err := s.storeNamed(b.Store)
	if err != nil {
		return blob.Content{}, s.fault(err, nil)
	}
	c, err := store.Open(ctx, d)
	return c, s.fault(err, distribution.BlobUnknown(d))
}

// readCloser is a reader of memory.
type readCloser struct{ io.ReadSeeker }

func (readCloser) Close() error { return nil }

// BlobURL is an address to redirect a GET to (307); "" when the content is to be served here.
func (s *Service) BlobURL(ctx context.Context, repo distribution.RepoName, d digest.Digest) (string, error) {
	r, ok := s.storeOf(repo).Store.(blob.Redirector)
	if !ok || !s.cfg.Redirect {
		return "", nil
	}
	if _, err := s.linked(ctx, repo, d); err != nil {
		if errdefs.IsNotFound(err) {
			return "", nil // OpenBlob knows whether it is a manifest, or has the error
		}
		return "", err
	}
	url, err := r.URL(ctx, d, redirectValid)
	return url, s.fault(err, distribution.BlobUnknown(d))
}

// DeleteBlob removes the link. BLOB_UNKNOWN; DENIED of class ErrMethod while a manifest refers to it.
func (s *Service) DeleteBlob(ctx context.Context, repo distribution.RepoName, d digest.Digest) error {
	err := s.index.Unlink(ctx, repo, d)
	s.links.forget(repo, d.String())
	if errdefs.IsFailedPrecondition(err) {
		return distribution.NewError(distribution.CodeDenied, distribution.ErrMethod, "a manifest of the repository refers to the blob")
	}
	return s.fault(err, distribution.BlobUnknown(d))
}

// MountBlob links a blob of another repository. ok is false, without an error, when that cannot be: start an upload then.
func (s *Service) MountBlob(ctx context.Context, m Mount) (info blob.Info, ok bool, err error) {
	if m.From != "" {
		if m.May != nil && !m.May(m.From) {
			return blob.Info{}, false, nil
		}
		return s.mount(ctx, m.Repo, m.From, m.Digest)
	}
	for page := (distribution.Page{N: 100}); ; {
		repos, err := s.index.Linking(ctx, s.storeOf(m.Repo).Name, m.Digest, page)
		if err != nil {
			return blob.Info{}, false, s.fault(err, nil)
		}
		for _, from := range repos {
			// No client can name a repository that begins with "_": what lies there is not anybody's yet.
			if from[0] == '_' || m.May != nil && !m.May(from) {
				continue
			}
			if info, ok, err := s.mount(ctx, m.Repo, from, m.Digest); ok || err != nil {
				return info, ok, err
			}
		}
		if len(repos) < page.N {
			return blob.Info{}, false, nil
		}
		page.Last = string(repos[len(repos)-1])
	}
}

func (s *Service) mount(ctx context.Context, repo, from distribution.RepoName, d digest.Digest) (blob.Info, bool, error) {
	place, now := s.storeOf(repo), s.cfg.Now()
	b, err := s.index.Mount(ctx, registryindex.Link{
		Repo: repo, MaxRepos: s.cfg.MaxRepos, Blob: registryindex.Blob{Store: place.Name, Digest: d, Added: now},
	}, from)
	if errdefs.IsNotFound(err) {
		return blob.Info{}, false, nil
	}
	if err != nil {
		return blob.Info{}, false, s.fault(err, nil)
	}
	s.pushed(repo, d)
	return blob.Info{Digest: d, Size: b.Size, Modified: now}, true, nil
}

// pushed notes that a link was made.
func (s *Service) pushed(repo distribution.RepoName, d digest.Digest) {
	s.links.forget(repo, d.String())
	s.activity.note(repo, s.cfg.Now())
}

// link makes stored bytes visible. The bytes are durable; a client that goes away now leaves a link, not an orphan.
func (s *Service) link(ctx context.Context, repo distribution.RepoName, info blob.Info) (blob.Info, error) {
	now := s.cfg.Now()
	err := s.index.Link(context.WithoutCancel(ctx), registryindex.Link{Repo: repo, MaxRepos: s.cfg.MaxRepos,
		Blob: registryindex.Blob{Store: s.storeOf(repo).Name, Digest: info.Digest, Size: info.Size, Added: now}})
	s.pushed(repo, info.Digest)
	return info, s.fault(err, nil)
}

// LinkIn takes a file whose digest the caller vouches for as a blob of the repository: by hard link on the same file
// system, else by copy. Used by the engine when it pushes to its own registry.
func (s *Service) LinkIn(ctx context.Context, repo distribution.RepoName, d digest.Digest, path string) (blob.Info, error) {
	if err := d.Validate(); err != nil {
		return blob.Info{}, distribution.DigestInvalid("invalid digest %q", d)
	}
	place := s.storeOf(repo)
	linker, ok := place.Store.(blob.Linker)
	if !ok {
		return s.putFile(ctx, repo, d, path)
	}
	release, err := s.index.Share(ctx, place.Name, d)
	if err != nil {
		return blob.Info{}, s.fault(err, nil)
	}
	defer release()
	info, err := linker.LinkIn(ctx, d, path)
	if err != nil {
		return blob.Info{}, s.fault(err, distribution.BlobUnknown(d))
	}
	return s.link(ctx, repo, info)
}

// PathOf is the file of a blob that the repository links, to be hard-linked by the engine when it pulls from its own
// registry; BLOB_UNKNOWN, or UNSUPPORTED of class ErrNotImplemented when the store has no files.
func (s *Service) PathOf(ctx context.Context, repo distribution.RepoName, d digest.Digest) (string, error) {
	b, err := s.linked(ctx, repo, d)
	if err != nil {
		return "", err
	}
	store, err := s.storeNamed(b.Store)
	if err != nil {
		return "", s.fault(err, nil)
	}
	linker, ok := store.(blob.Linker)
	if !ok {
		return "", distribution.NewError(distribution.CodeUnsupported, errdefs.ErrNotImplemented, "the blob store has no local files")
	}
	path, err := linker.PathOf(ctx, d)
	return path, s.fault(err, distribution.BlobUnknown(d))
}
