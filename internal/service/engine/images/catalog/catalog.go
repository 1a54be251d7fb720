// Package catalog is the in-memory index of the engine's images: names, digests and short IDs to what is known of an
// image. Readers never wait: they look into an immutable view that each change replaces.
package catalog

import (
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
)

const danglingPrefix = "moby-dangling@"

// DanglingName is the name in the image store that keeps an image without names.
func DanglingName(d digest.Digest) string { return danglingPrefix + d.String() }

// Manifest is one manifest of an image: a platform's image, an attestation, or something else.
type Manifest struct {
	Desc ocispec.Descriptor
	Kind image.ManifestKind
	// Available: manifest, configuration and all layers are stored.
	Available bool
	Config    ocispec.Descriptor
	Layers    []ocispec.Descriptor
	// Image is the configuration; zero unless it is stored.
	Image    dockerspec.DockerOCIImage
	Platform ocispec.Platform
	ChainIDs []digest.Digest
	// Blobs are the stored blobs with their sizes in bytes.
	Blobs map[digest.Digest]int64
	// For is what an attestation speaks about.
	For digest.Digest
}

// ChainID names the top snapshot; empty without layers.
func (m *Manifest) ChainID() digest.Digest {
	if len(m.ChainIDs) == 0 {
		return ""
	}
	return m.ChainIDs[len(m.ChainIDs)-1]
}

// ContentSize is the size of the stored blobs.
func (m *Manifest) ContentSize() int64 {
	var n int64
	for _, s := range m.Blobs {
		n += s
	}
	return n
}

// Name is one record of the image store.
type Name struct {
	images.Image
	// Ref is nil for a record that only keeps an image without names.
	Ref reference.Named
}

// Entry is an image: a target and all that points at it. Entries are immutable.
type Entry struct {
	Target    ocispec.Descriptor
	Names     []Name // sorted by name
	Manifests []*Manifest
	// Sources are the repositories that the image was pulled from or pushed to, such as "docker.io/library/busybox".
	Sources []string
	// Own are the stored blobs that belong to no manifest: the index.
	Own map[digest.Digest]int64
}

// ID is the digest that docker shows.
func (e *Entry) ID() digest.Digest { return e.Target.Digest }

// Dangling tells that nothing but a dangling record points at the image.
func (e *Entry) Dangling() bool { return len(e.Refs()) == 0 }

// Refs are the references that point at the image.
func (e *Entry) Refs() []Name {
	out := make([]Name, 0, len(e.Names))
	for _, n := range e.Names {
		if n.Ref != nil {
			out = append(out, n)
		}
	}
	return out
}

// Label is the first value of a label on the image's names.
func (e *Entry) Label(key string) string {
	for _, n := range e.Names {
		if v := n.Labels[key]; v != "" {
			return v
		}
	}
	return ""
}

// Updated is when a name was last pointed at the image.
func (e *Entry) Updated() time.Time {
	var t time.Time
	for _, n := range e.Names {
		if n.UpdatedAt.After(t) {
			t = n.UpdatedAt
		}
	}
	return t
}

// Blobs are all stored blobs of the image.
func (e *Entry) Blobs() map[digest.Digest]int64 {
	out := map[digest.Digest]int64{}
	for d, n := range e.Own {
		out[d] = n
	}
	for _, m := range e.Manifests {
		for d, n := range m.Blobs {
			out[d] = n
		}
	}
	return out
}

// Familiar is a name for messages: the first reference, else the digest.
func (e *Entry) Familiar() string {
	for _, n := range e.Names {
		if n.Ref != nil {
			return reference.FamiliarString(n.Ref)
		}
	}
	return e.ID().String()
}

type view struct {
	names    map[string]*Entry // by full name with tag or digest
	targets  map[digest.Digest]*Entry
	contents map[digest.Digest]*Entry // by digest of a manifest or configuration inside
	ids      []id                     // sorted by hex
}

type id struct {
	hex   string
	entry *Entry
}

// Catalog is the index. The zero value is empty and ready.
type Catalog struct {
	mu   sync.Mutex // serialises changes
	view atomic.Pointer[view]
}

func (c *Catalog) look() *view {
	if v := c.view.Load(); v != nil {
		return v
	}
	return &view{}
}

// All lists every image, in no order.
func (c *Catalog) All() []*Entry {
	v := c.look()
	out := make([]*Entry, 0, len(v.targets))
	for _, e := range v.targets {
		out = append(out, e)
	}
	return out
}

// Target finds an image by its ID.
func (c *Catalog) Target(d digest.Digest) *Entry { return c.look().targets[d] }

// Named finds an image by a record's full name.
func (c *Catalog) Named(name string) *Entry { return c.look().names[name] }

// Containing finds an image by its own digest or that of a manifest or configuration inside.
func (c *Catalog) Containing(d digest.Digest) *Entry {
	v := c.look()
	if e := v.targets[d]; e != nil {
		return e
	}
	return v.contents[d]
}

// Change replaces the images of the targets given: nil entries, and those without names, are removed. change is called
// with the current view's look-up under the catalog's lock.
func (c *Catalog) Change(change func(old func(digest.Digest) *Entry) map[digest.Digest]*Entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.look()
	updates := change(func(d digest.Digest) *Entry { return old.targets[d] })
	if len(updates) == 0 {
		return
	}
	next := &view{names: map[string]*Entry{}, targets: make(map[digest.Digest]*Entry, len(old.targets)+len(updates)), contents: map[digest.Digest]*Entry{}}
	for d, e := range old.targets {
		if _, replaced := updates[d]; !replaced {
			next.targets[d] = e
		}
	}
	for d, e := range updates {
		if e != nil && len(e.Names) > 0 {
			next.targets[d] = e
		}
	}
	next.index()
	c.view.Store(next)
}

func (v *view) index() {
	for d, e := range v.targets {
		for _, n := range e.Names {
			v.names[n.Name] = e
		}
		v.ids = append(v.ids, id{d.Encoded(), e})
		for _, m := range e.Manifests {
			v.content(m.Desc.Digest, e)
			v.content(m.Config.Digest, e)
		}
	}
	sort.Slice(v.ids, func(i, j int) bool { return v.ids[i].hex < v.ids[j].hex })
}

func (v *view) content(d digest.Digest, e *Entry) {
	if d == e.Target.Digest || d.Validate() != nil {
		return
	}
	if have := v.contents[d]; have == nil || have.Target.Digest > e.Target.Digest {
		if have == nil {
			v.ids = append(v.ids, id{d.Encoded(), e})
		}
		v.contents[d] = e
	}
}

// short finds the images whose digest, or that of a manifest or configuration inside, starts with hex. Images found by
// their own digest win.
func (v *view) short(hex string) (own, inner []*Entry) {
	i := sort.Search(len(v.ids), func(i int) bool { return v.ids[i].hex >= hex })
	for ; i < len(v.ids) && strings.HasPrefix(v.ids[i].hex, hex); i++ {
		e := v.ids[i].entry
		list := &inner
		if v.ids[i].hex == e.Target.Digest.Encoded() {
			list = &own
		}
		if !slices.Contains(*list, e) {
			*list = append(*list, e)
		}
	}
	return own, inner
}

// Found is the result of a look-up.
type Found struct {
	*Entry
	// Ref is the reference that was looked up, completed with its tag; nil when it was an ID.
	Ref reference.Named
	// Exact tells that Ref is the name of one of the image's records.
	Exact bool
}

// Find looks an image up by name, name and tag, name and digest, ID or unambiguous short ID. Names win over short IDs.
func (c *Catalog) Find(ref string) (Found, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return Found{}, fault.Invalid("%w", err)
	}
	v := c.look()
	named, isNamed := parsed.(reference.Named)
	if d, ok := parsed.(reference.Digested); ok {
		return v.digested(parsed, named, isNamed, d.Digest())
	}
	if !isNamed {
		return Found{}, NoSuchImage(parsed)
	}
	named = reference.TagNameOnly(named)
	if e := v.names[named.String()]; e != nil {
		return Found{e, named, true}, nil
	}
	if hex := shortID(ref); hex != "" {
		own, inner := v.short(hex)
		if len(own) == 0 {
			own = inner
		}
		switch len(own) {
		case 0:
		case 1:
			return Found{Entry: own[0]}, nil
		default:
			return Found{}, fault.NotFound("ambiguous reference")
		}
	}
	return Found{}, NoSuchImage(parsed)
}

func (v *view) digested(parsed reference.Reference, named reference.Named, isNamed bool, d digest.Digest) (Found, error) {
	e := v.targets[d]
	if !isNamed {
		if e == nil {
			e = v.contents[d]
		}
		if e == nil {
			return Found{}, NoSuchImage(parsed)
		}
		return Found{Entry: e}, nil
	}
	if e != nil {
		_, exact := v.names[named.String()]
		for _, n := range e.Names {
			if n.Ref != nil && n.Ref.Name() == named.Name() {
				return Found{e, named, exact}, nil
			}
		}
	}
	return Found{}, NoSuchImage(parsed)
}

// shortID is the hex part of an ID of 4 to 64 digits with or without algorithm, else empty.
func shortID(s string) string {
	s = strings.TrimPrefix(s, "sha256:")
	if len(s) < 4 || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}

// Short is a digest or container ID as docker shows it in texts: twelve digits.
func Short(s string) string {
	if _, hex, ok := strings.Cut(s, ":"); ok {
		s = hex
	}
	return s[:min(12, len(s))]
}

// NoSuchImage is docker's error for an image that is not there.
func NoSuchImage(ref reference.Reference) error {
	if n, ok := ref.(reference.Named); ok {
		ref = reference.TagNameOnly(n)
		return fault.NotFound("No such image: %s", reference.FamiliarString(reference.TagNameOnly(n)))
	}
	return fault.NotFound("No such image: %s", ref.String())
}
