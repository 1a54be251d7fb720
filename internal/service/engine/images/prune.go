package images

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	digest "github.com/opencontainers/go-digest"

	"longshore/internal/core/fault"
	"longshore/internal/service/engine/images/catalog"
)

// Prune removes images that no container uses: those without names or, with the filter dangling=false, all; and broken downloads. Further
// filters, which spare the latter, are label, label! and until.
func (s *Service) Prune(ctx context.Context, filters map[string][]string) (*image.PruneReport, error) {
	if !s.pruning.TryLock() {
		return nil, fault.Conflict("a prune operation is already running")
	}
	defer s.pruning.Unlock()
	rest := maps.Clone(filters)
	danglingOnly := true
	if v, ok := rest["dangling"]; ok {
		var err error
		if danglingOnly, err = boolFilter("dangling", v); err != nil {
			return nil, err
		}
		delete(rest, "dangling")
	}
	for k := range rest {
		if !slices.Contains([]string{"label", "label!", "until"}, k) {
			return nil, fault.Invalid("invalid filter '%s'", k)
		}
	}
	pass, err := s.filter(rest)
	if err != nil {
		return nil, err
	}
	s.names.Lock()
	defer s.names.Unlock()
	report := &image.PruneReport{}
	removed := map[digest.Digest]*catalog.Entry{}
	used := s.usedNames()
	entries := s.cat.All()
	slices.SortFunc(entries, func(a, b *catalog.Entry) int { return strings.Compare(a.Familiar(), b.Familiar()) })
	for _, e := range entries {
		if ctx.Err() != nil {
			break
		}
		if len(pass(e)) == 0 || danglingOnly && !e.Dangling() {
			continue
		}
		if err := s.pruneEntry(ctx, e, used, report, removed); err != nil {
			return report, err
		}
	}
	report.SpaceReclaimed = s.reclaimed(ctx, removed)
	if len(rest) == 0 {
		freed, err := s.remote.Prune()
		if err != nil {
			return report, err
		}
		report.SpaceReclaimed += uint64(freed)
	}
	if len(report.ImagesDeleted) > 0 {
		s.store.Collect()
	}
	s.events.Publish(context.WithoutCancel(ctx), events.Message{
		Type: events.ImageEventType, Action: events.ActionPrune, Scope: "local",
		Actor: events.Actor{Attributes: map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)}},
	})
	return report, nil
}

// usedNames are the full names that containers were made by.
func (s *Service) usedNames() map[string]bool {
	out := map[string]bool{}
	if s.cfg.Container == nil {
		return out
	}
	s.uses.mu.RLock()
	defer s.uses.mu.RUnlock()
	for id := range s.uses.byContainer {
		u, ok := s.cfg.Container(id)
		if !ok {
			continue
		}
		ref, err := reference.ParseNormalizedNamed(u.Ref)
		if err != nil {
			continue
		}
		out[fullName(ref)] = true
		if t, ok := ref.(reference.Tagged); ok {
			if bare, err := reference.WithTag(reference.TrimNamed(ref), t.Tag()); err == nil {
				out[bare.String()] = true
			}
		}
	}
	return out
}

// pruneEntry removes an image that no container uses. Of one in use only the names go that no container was made by,
// and never the last.
func (s *Service) pruneEntry(ctx context.Context, e *catalog.Entry, used map[string]bool, report *image.PruneReport, removed map[digest.Digest]*catalog.Entry) error {
	if !s.inUse(e.ID()) {
		list, err := s.drop(ctx, e)
		if err != nil {
			return err
		}
		if e.Dangling() {
			report.ImagesDeleted = append(report.ImagesDeleted, image.DeleteResponse{Untagged: e.ID().String()})
		}
		report.ImagesDeleted = append(report.ImagesDeleted, list...)
		for _, m := range e.Manifests {
			if _, stored := m.Blobs[m.Desc.Digest]; stored && m.Desc.Digest != e.ID() {
				report.ImagesDeleted = append(report.ImagesDeleted, image.DeleteResponse{Deleted: m.Desc.Digest.String()})
			}
		}
		removed[e.ID()] = e
		return nil
	}
	var spare []catalog.Name
	for _, n := range e.Names {
		if n.Ref != nil && !used[n.Name] {
			spare = append(spare, n)
		}
	}
	if len(spare) == len(e.Names) {
		spare = spare[:len(spare)-1]
	}
	if len(spare) == 0 {
		return nil
	}
	list, err := s.untag(ctx, e, spare)
	report.ImagesDeleted = append(report.ImagesDeleted, list...)
	return err
}

// reclaimed is what the removal of images frees in bytes: blobs and layers that no other image has.
func (s *Service) reclaimed(ctx context.Context, removed map[digest.Digest]*catalog.Entry) uint64 {
	keptBlobs, keptChains := map[digest.Digest]int64{}, map[digest.Digest]bool{}
	for _, e := range s.cat.All() {
		maps.Copy(keptBlobs, e.Blobs())
		maps.Copy(keptChains, chainsOf(e))
	}
	blobs, chains := map[digest.Digest]int64{}, map[digest.Digest]bool{}
	for _, e := range removed {
		maps.Copy(blobs, e.Blobs())
		maps.Copy(chains, chainsOf(e))
	}
	var sum int64
	for d, n := range blobs {
		if _, kept := keptBlobs[d]; !kept {
			sum += n
		}
	}
	for c := range chains {
		if !keptChains[c] {
			sum += s.store.LayerSize(ctx, c.String())
		}
	}
	return uint64(max(sum, 0))
}
