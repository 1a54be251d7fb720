package registry

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
	"longshore/internal/core/manifest"
	"longshore/internal/core/registryindex"
)

// Referrers lists the manifests whose subject is d; an empty list when there are none or no such repository.
func (s *Service) Referrers(ctx context.Context, repo distribution.RepoName, d digest.Digest, artifactType string) (Referrers, error) {
	rows, err := s.index.Referrers(ctx, repo, d, artifactType)
	if err != nil {
		return Referrers{}, s.fault(err, nil)
	}
	list := descriptors(rows)
	payload, err := indexDocument(list)
	if err != nil {
		return Referrers{}, s.fault(err, nil)
	}
	return Referrers{Descriptors: list, Payload: payload, Filtered: artifactType != ""}, nil
}

func descriptors(rows []registryindex.Manifest) []ocispec.Descriptor {
	list := make([]ocispec.Descriptor, len(rows))
	for i, m := range rows {
		list[i] = ocispec.Descriptor{
			MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations,
		}
	}
	return list
}

func indexDocument(list []ocispec.Descriptor) ([]byte, error) {
	return json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
}

// Clients from before the referrers API read the list of referrers as an image index from the tag of the referrers tag
// schema, and push a new one there. Nothing is stored for them: the index is made when the tag is asked for, from the
// rows, and with what such a client has pushed to the tag. Its digest is remembered, since clients ask for the digest
// that the tag's HEAD told them.

// fallback answers for a tag or digest that the index does not have. missing is the error when it is none of ours.
func (s *Service) fallback(ctx context.Context, repo distribution.RepoName, ref distribution.Reference, missing error) (Manifest, error) {
	if ref.Digest != "" {
		if m, ok := s.made.get(repo, ref.Digest); ok {
			return m, nil
		}
		return Manifest{}, s.unknown(ctx, repo, missing)
	}
	subject, ok := subjectOf(ref.Tag)
	if !ok {
		return Manifest{}, s.unknown(ctx, repo, missing)
	}
	r, err := s.Referrers(ctx, repo, subject, "")
	if err != nil {
		return Manifest{}, err
	}
	if len(r.Descriptors) == 0 {
		return Manifest{}, s.unknown(ctx, repo, missing)
	}
	return s.remember(repo, r.Payload), nil
}

// completed adds to an index that a client has pushed to the tag the referrers that it does not list.
func (s *Service) completed(ctx context.Context, repo distribution.RepoName, tag distribution.Tag, m Manifest) Manifest {
	subject, _ := subjectOf(tag)
	if m.MediaType != ocispec.MediaTypeImageIndex {
		return m
	}
	doc, err := manifest.Parse(m.MediaType, m.Payload)
	rows, rerr := s.index.Referrers(ctx, repo, subject, "")
	if err != nil || rerr != nil {
		return m
	}
	listed := map[digest.Digest]bool{}
	for _, c := range doc.Children {
		listed[c.Digest] = true
	}
	list := doc.Children
	for _, d := range descriptors(rows) {
		if !listed[d.Digest] {
			list = append(list, d)
		}
	}
	if len(list) == len(doc.Children) {
		return m
	}
	payload, err := indexDocument(list)
	if err != nil {
		return m
	}
	return s.remember(repo, payload)
}

func (s *Service) remember(repo distribution.RepoName, payload []byte) Manifest {
	m := Manifest{Digest: digest.SHA256.FromBytes(payload), MediaType: ocispec.MediaTypeImageIndex, Payload: payload}
	s.made.put(repo, m)
	return m
}

// made remembers the last manifests that were made for the referrers tag schema.
type made struct {
	mu    sync.Mutex // guards the rest
	list  [256]madeKey
	next  int
	known map[madeKey]Manifest
}

type madeKey struct {
	repo   distribution.RepoName
	digest digest.Digest
}

func newMade() *made { return &made{known: map[madeKey]Manifest{}} }

func (m *made) get(repo distribution.RepoName, d digest.Digest) (Manifest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.known[madeKey{repo, d}]
	return v, ok
}

func (m *made) put(repo distribution.RepoName, v Manifest) {
	k := madeKey{repo, v.Digest}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[k]; ok {
		return
	}
	delete(m.known, m.list[m.next])
	m.list[m.next] = k
	m.next = (m.next + 1) % len(m.list)
	m.known[k] = v
}

// Tags lists a repository's tags: NAME_UNKNOWN when there is no such repository.
func (s *Service) Tags(ctx context.Context, repo distribution.RepoName, page distribution.Page) (List, error) {
	ask := page
	if page.N > 0 {
		ask.N++ // one more tells whether there are more
	}
	tags, err := s.index.Tags(ctx, repo, ask)
	if err != nil {
		return List{}, s.fault(err, distribution.NameUnknown(repo))
	}
	return list(tags, page), nil
}

// list cuts what was asked for one more than the page.
func list[N ~string](names []N, page distribution.Page) List {
	l := List{Names: make([]string, 0, len(names))}
	for _, n := range names {
		if page.N >= 0 && len(l.Names) == page.N {
			l.More = page.N > 0
			break
		}
		l.Names = append(l.Names, string(n))
	}
	return l
}

// TagInfos lists tags with statistics, for management and search.
func (s *Service) TagInfos(ctx context.Context, repo distribution.RepoName, page distribution.Page) ([]registryindex.TagInfo, error) {
	infos, err := s.index.TagInfos(ctx, repo, page)
	return infos, s.fault(err, distribution.NameUnknown(repo))
}

// catalogueBatch is how many names are asked for at once when a predicate may refuse some.
const catalogueBatch = 200

// Repositories is the catalogue: repositories that have a tag and that may (nil: all) accepts.
func (s *Service) Repositories(ctx context.Context, page distribution.Page, may func(distribution.RepoName) bool) (List, error) {
	if page.N == 0 {
		return List{Names: []string{}}, nil
	}
	ask := distribution.Page{N: -1, Last: page.Last}
	if page.N > 0 {
		ask.N = page.N + 1
		if may != nil {
			ask.N = max(ask.N, catalogueBatch)
		}
	}
	var names []distribution.RepoName
	for {
		batch, err := s.index.Repositories(ctx, ask)
		if err != nil {
			return List{}, s.fault(err, nil)
		}
		for _, name := range batch {
			if may == nil || may(name) {
				names = append(names, name)
			}
		}
		if len(batch) < ask.N || ask.N < 0 || len(names) > page.N {
			return list(names, page), nil
		}
		ask.Last = string(batch[len(batch)-1])
	}
}

// Repository tells a repository's figures (for metrics): NAME_UNKNOWN.
func (s *Service) Repository(ctx context.Context, repo distribution.RepoName) (registryindex.Repository, error) {
	r, err := s.index.Repository(ctx, repo)
	if errdefs.IsNotFound(err) {
		return r, distribution.NameUnknown(repo)
	}
	return r, s.fault(err, nil)
}
