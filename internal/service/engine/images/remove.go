package images

import (
	"context"
	"slices"
	"strings"

	c8images "github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/catalog"
)

// RemoveOptions are docker's options of an image removal.
type RemoveOptions struct {
	// Force overcomes stopped containers and several names.
	Force bool
	// KeepParents leaves untagged parents (noprune).
	KeepParents bool
	// Platforms removes only these variants' content.
	Platforms []ocispec.Platform
}

// conflicts that stand in the way of a removal.
type conflicts struct{ stopped, references bool }

// RemoveImage removes a name, and the image with its last name, by docker's rules.
func (s *Service) RemoveImage(ctx context.Context, ref string, o RemoveOptions) ([]image.DeleteResponse, error) {
	if len(o.Platforms) > 0 && !o.Force {
		return nil, fault.Invalid("Content will be removed from all images referencing this variant. Use —-force to force delete.")
	}
	s.names.Lock()
	defer s.names.Unlock()
	f, err := s.findForRemoval(ref)
	if err != nil {
		return nil, err
	}
	if len(o.Platforms) > 0 {
		return s.removeVariants(ctx, f.Entry, o.Platforms)
	}
	c := conflicts{stopped: !o.Force, references: !o.Force}
	same := sameReferences(f.Ref, f.Names)
	if f.Ref == nil {
		if len(same) == len(f.Names) {
			c.references = false
		}
		return s.removeAll(ctx, f.Entry, c, o)
	}
	if len(same) != len(f.Names) {
		return s.untag(ctx, f.Entry, same)
	}
	c.references = false
	if users := s.users(f.ID()); len(users) > 0 {
		name := reference.FamiliarString(f.Ref)
		if !o.Force {
			return nil, conflict(name, false, "container "+catalog.Short(users[0].ID)+" is using its referenced image "+catalog.Short(f.ID().String()))
		}
		return s.untag(ctx, f.Entry, same)
	}
	return s.removeAll(ctx, f.Entry, c, o)
}

// findForRemoval also finds the record that keeps a nameless image.
func (s *Service) findForRemoval(ref string) (catalog.Found, error) {
	if e := s.cat.Named(ref); e != nil && ref == catalog.DanglingName(e.ID()) {
		return catalog.Found{Entry: e}, nil
	}
	return s.cat.Find(ref)
}

// sameReferences are the names that a removal of ref means: the same repository and tag, dangling records, and digest
// references of the repository unless it has other tags. Without ref the first name stands for it.
func sameReferences(ref reference.Named, names []catalog.Name) []catalog.Name {
	tag, allTags := "", false
	if t, ok := ref.(reference.Tagged); ok {
		tag = t.Tag()
	} else if _, ok := ref.(reference.Digested); ok {
		allTags = true
	}
	var same, digested []catalog.Name
	otherTags := false
	for _, n := range names {
		if n.Ref == nil {
			same = append(same, n)
			continue
		}
		t, tagged := n.Ref.(reference.Tagged)
		if ref == nil {
			ref = n.Ref
		}
		switch {
		case ref.Name() != n.Ref.Name():
		case allTags:
			same = append(same, n)
		case !tagged:
			digested = append(digested, n)
		case tag == "" || tag == t.Tag():
			tag = t.Tag()
			same = append(same, n)
		default:
			otherTags = true
		}
	}
	if !otherTags {
		same = append(same, digested...)
	}
	return same
}

func conflict(ref string, hard bool, message string) error {
	forced := "must be forced"
	if hard {
		forced = "cannot be forced"
	}
	return fault.Conflict("conflict: unable to delete %s (%s) - %s", ref, forced, message)
}

// users are the containers made from an image, sorted by ID.
func (s *Service) users(img digest.Digest) []User {
	var out []User
	for _, id := range s.uses.of(img) {
		u := User{ID: id}
		if s.cfg.Container != nil {
			if known, ok := s.cfg.Container(id); ok {
				u = known
			}
		}
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b User) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func (s *Service) check(e *catalog.Entry, c conflicts) error {
	id := catalog.Short(e.ID().String())
	users := s.users(e.ID())
	for _, u := range users {
		if u.Running {
			return conflict(id, true, "image is being used by running container "+catalog.Short(u.ID))
		}
	}
	if c.stopped && len(users) > 0 {
		return conflict(id, false, "image is being used by stopped container "+catalog.Short(users[0].ID))
	}
	if c.references && len(e.Names) > 1 {
		return conflict(id, false, "image is referenced in multiple repositories")
	}
	return nil
}

// untag removes names; an image that is still in use stays, dangling.
func (s *Service) untag(ctx context.Context, e *catalog.Entry, names []catalog.Name) ([]image.DeleteResponse, error) {
	c := change{}
	if len(names) == len(e.Names) {
		c.put = append(c.put, dangling(e))
	}
	var out []image.DeleteResponse
	for _, n := range names {
		c.remove = append(c.remove, n.Name)
		if n.Ref != nil {
			out = append(out, image.DeleteResponse{Untagged: reference.FamiliarString(n.Ref)})
		}
	}
	if err := s.apply(ctx, c); err != nil {
		return nil, err
	}
	for _, r := range out {
		s.publish(ctx, events.ActionUnTag, e.ID().String(), r.Untagged, labels(e))
	}
	return out, nil
}

func dangling(e *catalog.Entry) c8images.Image {
	return c8images.Image{Name: catalog.DanglingName(e.ID()), Target: e.Target, CreatedAt: now(), Labels: recordLabels(e)}
}

// removeAll removes an image with all its names, and then parents that nobody else needs.
func (s *Service) removeAll(ctx context.Context, e *catalog.Entry, c conflicts, o RemoveOptions) ([]image.DeleteResponse, error) {
	if err := s.check(e, c); err != nil {
		return nil, err
	}
	if !o.Force && !e.Dangling() && s.hasChildren(e.ID()) {
		return s.untag(ctx, e, e.Refs())
	}
	out, err := s.drop(ctx, e)
	if err != nil || o.KeepParents {
		return out, err
	}
	for parent := e.Label(parentLabel); parent != ""; {
		p := s.cat.Target(digest.Digest(parent))
		if p == nil || !p.Dangling() || s.hasChildren(p.ID()) || s.check(p, conflicts{stopped: true}) != nil {
			break
		}
		more, err := s.drop(ctx, p)
		if err != nil {
			s.cfg.Log.Warn("parent image not removed", "digest", p.ID(), "error", err)
			break
		}
		out = append(out, more...)
		parent = p.Label(parentLabel)
	}
	return out, nil
}

func (s *Service) inUse(id digest.Digest) bool { return len(s.uses.of(id)) > 0 }

func (s *Service) hasChildren(id digest.Digest) bool {
	for _, e := range s.cat.All() {
		if e.Label(parentLabel) == id.String() {
			return true
		}
	}
	return false
}

// drop removes an image whatever the conflicts.
func (s *Service) drop(ctx context.Context, e *catalog.Entry) ([]image.DeleteResponse, error) {
	var c change
	var out []image.DeleteResponse
	for _, n := range e.Names {
		c.remove = append(c.remove, n.Name)
		if n.Ref != nil {
			out = append(out, image.DeleteResponse{Untagged: reference.FamiliarString(n.Ref)})
		}
	}
	if err := s.apply(ctx, c); err != nil {
		return nil, err
	}
	id := e.ID().String()
	for _, r := range out {
		s.publish(ctx, events.ActionUnTag, id, r.Untagged, labels(e))
	}
	s.publish(ctx, events.ActionDelete, id, id, labels(e))
	s.store.Collect()
	return append(out, image.DeleteResponse{Deleted: id}), nil
}

// removeVariants removes the content of some platforms and leaves the names.
func (s *Service) removeVariants(ctx context.Context, e *catalog.Entry, list []ocispec.Platform) ([]image.DeleteResponse, error) {
	var gone []*catalog.Manifest
	for _, p := range list {
		m, err := e.Best(&p)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(gone, m) {
			gone = append(gone, m)
		}
	}
	shared := map[digest.Digest]bool{}
	for _, other := range s.cat.All() {
		for _, m := range other.Manifests {
			if !slices.ContainsFunc(gone, func(g *catalog.Manifest) bool { return g.Desc.Digest == m.Desc.Digest }) {
				for d := range m.Blobs {
					shared[d] = true
				}
			}
		}
	}
	var out []image.DeleteResponse
	touched := map[digest.Digest]bool{e.ID(): true}
	for _, m := range gone {
		for d := range m.Blobs {
			if shared[d] {
				continue
			}
			if err := s.store.Content().Delete(ctx, d); err != nil && !errdefs.IsNotFound(err) {
				return nil, fault.Internal("failed to delete platform content %s: %w", d, err)
			}
			if other := s.cat.Containing(d); other != nil {
				touched[other.ID()] = true
			}
		}
		out = append(out, image.DeleteResponse{Deleted: m.Desc.Digest.String()})
	}
	s.store.Collect()
	return out, s.refresh(ctx, touched, true)
}
