package registry

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/core/manifest"
	"longshore/internal/core/registryindex"
)

// Manifest finds a manifest: MANIFEST_UNKNOWN, or NAME_UNKNOWN when there is no such repository.
func (s *Service) Manifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference, o ManifestOptions) (Manifest, error) {
	m, err := s.find(ctx, repo, ref)
	if errdefs.IsNotFound(err) {
		m, err = s.fallback(ctx, repo, ref, err)
	}
	if err != nil {
		return Manifest{}, err
	}
	if _, ok := subjectOf(ref.Tag); ok {
		m = s.completed(ctx, repo, ref.Tag, m)
	}
	if ref.Tag != "" && len(o.Accept) > 0 {
		m = s.acceptable(ctx, repo, m, o.Accept)
	}
	if o.Pull {
		s.pulls.add(pullKey{repo, m.Digest, ref.Tag}, s.cfg.Now())
	}
	return m, nil
}

// find looks a manifest up on the shelf, then in the index.
func (s *Service) find(ctx context.Context, repo distribution.RepoName, ref distribution.Reference) (Manifest, error) {
	name := ref.String()
	m, ok, gen := s.manifests.get(repo, name)
	if ok {
		return m, nil
	}
	row, err := s.index.Manifest(ctx, repo, ref)
	if err != nil {
		return Manifest{}, s.fault(err, distribution.ManifestUnknown(ref))
	}
	m = Manifest{Digest: row.Digest, MediaType: row.MediaType, Payload: row.Payload}
	s.manifests.put(repo, name, m, gen)
	return m, nil
}

// acceptable is m, or for a client that asks by tag and knows manifests but no index its linux/amd64 manifest, as the
// reference implementation chooses.
func (s *Service) acceptable(ctx context.Context, repo distribution.RepoName, m Manifest, accept []string) Manifest {
	if !manifest.IsIndex(m.MediaType) || accepts(accept, m.MediaType) {
		return m
	}
	doc, err := manifest.Parse(m.MediaType, m.Payload)
	if err != nil {
		return m
	}
	for _, c := range doc.Children {
		if c.Platform == nil || c.Platform.OS != "linux" || c.Platform.Architecture != "amd64" || !accepts(accept, c.MediaType) {
			continue
		}
		if child, err := s.find(ctx, repo, distribution.Reference{Digest: c.Digest}); err == nil {
			return child
		}
	}
	return m
}

func accepts(accept []string, mediaType string) bool {
	return slices.ContainsFunc(accept, func(a string) bool {
		return a == mediaType || a == "*/*" || a == "application/*"
	})
}

// PutManifest stores a manifest and points tags at it: MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN, DIGEST_INVALID, class
// ErrTooLarge. Everything is durable on return.
func (s *Service) PutManifest(ctx context.Context, p ManifestPut) (ManifestPushed, error) {
	payload, err := readManifest(p)
	if err != nil {
		return ManifestPushed{}, err
	}
	doc, err := manifest.Parse(p.MediaType, payload)
	if err != nil {
		return ManifestPushed{}, err
	}
	d := digest.SHA256.FromBytes(payload)
	if want := p.Reference.Digest; want != "" {
		if d = want.Algorithm().FromBytes(payload); d != want {
			return ManifestPushed{}, distribution.DigestInvalid("provided digest did not match uploaded content")
		}
	}
	tags := p.Tags
	if p.Reference.Tag != "" {
		tags = append([]distribution.Tag{p.Reference.Tag}, tags...)
	}
	put := put(p.Repo, doc, tags)
	if s.cfg.Sparse && manifest.IsImage(doc.MediaType) {
		put.Blobs, put.OptionalBlobs = doc.Blobs[:1], append(doc.Blobs[1:len(doc.Blobs):len(doc.Blobs)], doc.OptionalBlobs...)
	}
	put.Manifest.Digest, put.Manifest.Payload, put.Manifest.Size = d, payload, int64(len(payload))
	if err := s.store(ctx, put); err != nil {
		return ManifestPushed{}, err
	}
	return ManifestPushed{Digest: d, MediaType: doc.MediaType, Subject: doc.Subject, Tags: p.Tags}, nil
}

// put is the index's view of a document.
func put(repo distribution.RepoName, doc manifest.Document, tags []distribution.Tag) registryindex.ManifestPut {
	children := make([]digest.Digest, len(doc.Children))
	for i, c := range doc.Children {
		children[i] = c.Digest
	}
	return registryindex.ManifestPut{
		Repo: repo, Tags: tags, Blobs: doc.Blobs, OptionalBlobs: doc.OptionalBlobs, Children: children,
		Manifest: registryindex.Manifest{
			MediaType: doc.MediaType, Subject: doc.Subject, ArtifactType: doc.ArtifactType, Annotations: doc.Annotations,
		},
	}
}

// store writes the row and forgets what the shelf knew of its names.
func (s *Service) store(ctx context.Context, p registryindex.ManifestPut) error {
	p.MaxRepos = s.cfg.MaxRepos
	if p.Manifest.Pushed.IsZero() {
		p.Manifest.Pushed = s.cfg.Now()
	}
	err := s.index.PutManifest(ctx, p)
	names := []string{p.Manifest.Digest.String()}
	for _, t := range p.Tags {
		names = append(names, string(t))
	}
	s.manifests.forget(p.Repo, names...)
	s.activity.note(p.Repo, s.cfg.Now())
	var missing *registryindex.MissingError
	if errors.As(err, &missing) {
		return distribution.ManifestBlobUnknown(missing.Digests)
	}
	return s.fault(err, nil)
}

// readManifest reads the body within the limit.
func readManifest(p ManifestPut) ([]byte, error) {
	if p.Size > MaxManifest {
		return nil, tooLarge()
	}
	capacity := p.Size
	if capacity < 0 {
		capacity = 4096
	}
	payload := make([]byte, 0, capacity+1)
	for {
		n, err := p.Body.Read(payload[len(payload):cap(payload)])
		payload = payload[:len(payload)+n]
		switch {
		case len(payload) > MaxManifest:
			return nil, tooLarge()
		case err == io.EOF && p.Size >= 0 && int64(len(payload)) != p.Size:
			return nil, distribution.SizeInvalid("provided length did not match content length")
		case err == io.EOF:
			return payload, nil
		case err != nil:
			return nil, distribution.ManifestInvalid("the request's body ended early: %v", err)
		}
		if len(payload) == cap(payload) {
			payload = slices.Grow(payload, len(payload))
		}
	}
}

func tooLarge() error {
	return distribution.NewError(distribution.CodeManifestInvalid, distribution.ErrTooLarge, "the manifest is larger than %d bytes", MaxManifest)
}

// DeleteManifest deletes a tag, or a manifest with all its tags.
func (s *Service) DeleteManifest(ctx context.Context, repo distribution.RepoName, ref distribution.Reference) error {
	var err error
	if ref.Tag != "" {
		err = s.index.DeleteTag(ctx, repo, ref.Tag)
		s.manifests.forget(repo, string(ref.Tag))
	} else {
		err = s.index.DeleteManifest(ctx, repo, ref.Digest, s.cfg.Now())
		s.manifests.forget(repo)
		s.links.forget(repo)
	}
	err = s.fault(err, distribution.ManifestUnknown(ref))
	if errdefs.IsNotFound(err) {
		return s.unknown(ctx, repo, err)
	}
	return err
}

// DeleteRepository deletes all tags and manifests of a repository; its blobs go with the collection after the grace period.
// NAME_UNKNOWN.
func (s *Service) DeleteRepository(ctx context.Context, repo distribution.RepoName) error {
	err := s.index.DeleteRepository(ctx, repo, s.cfg.Now())
	s.manifests.forget(repo)
	s.links.forget(repo)
	return s.fault(err, distribution.NameUnknown(repo))
}

// unknown is NAME_UNKNOWN when there is no such repository, else otherwise.
func (s *Service) unknown(ctx context.Context, repo distribution.RepoName, otherwise error) error {
	_, err := s.index.Tags(ctx, repo, distribution.Page{})
	if err == nil {
		return otherwise
	}
	return s.fault(err, distribution.NameUnknown(repo))
}

// subjectOf reads the tag of the referrers tag schema. A sha512 digest is cut to 64 digits in it and stays cut here.
func subjectOf(tag distribution.Tag) (digest.Digest, bool) {
	alg, hex, ok := strings.Cut(string(tag), "-")
	if !ok || alg != "sha256" && alg != "sha512" {
		return "", false
	}
	// Both have 64 digits.
	return digest.Digest(alg + ":" + hex), digest.Digest("sha256:"+hex).Validate() == nil
}
