package containers

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/storage"

	core "longshore/internal/core/container"
	"longshore/internal/service/engine/containers/launch"
	"longshore/internal/service/engine/containers/listing"
	"longshore/internal/service/engine/containers/mounts"
)

// InspectOptions of Inspect.
type InspectOptions struct {
	// Size measures the file system, which takes its time.
	Size bool
}

// Inspect shows a container from its snapshot.
func (s *Service) Inspect(ctx context.Context, ref string, o InspectOptions) (*container.InspectResponse, error) {
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	rec := h.record()
	p, args := rec.Command()
	dir := s.deps.Disk.Dir(rec.ID)
	names := s.launcher.NamesDir(rec, s.recordOf)
	r := &container.InspectResponse{
		ID: rec.ID, Created: rec.Created.Format(time.RFC3339Nano), Path: p, Args: args, State: rec.State.View(),
		Image: rec.Image.ID.String(), Name: "/" + rec.Name, RestartCount: rec.State.RestartCount,
		Driver: s.cfg.StorageDriver, Platform: rec.Image.OS, AppArmorProfile: s.launcher.AppArmorProfile(rec.HostConfig), LogPath: launch.LogPath(dir, rec),
		HostnamePath: filepath.Join(names, "hostname"), HostsPath: filepath.Join(names, "hosts"),
		ResolvConfPath: filepath.Join(names, "resolv.conf"), ExecIDs: h.execIDs(),
		HostConfig: launch.ShownHost(rec, s.recordOf), Config: rec.Config, Mounts: mounts.Points(rec.Mounts), NetworkSettings: listing.NetworkSettings(rec),
		ImageManifestDescriptor: rec.Image.Manifest,
		Storage:                 &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: s.cfg.StorageDriver}}},
	}
	if rec.State.StartedAt.IsZero() {
		r.ResolvConfPath, r.HostnamePath, r.HostsPath = "", "", ""
	}
	if o.Size {
		rw, root, err := s.deps.Images.Usage(ctx, rec.ID)
		if err != nil {
			return nil, err
		}
		r.SizeRw, r.SizeRootFs = &rw, &root
	}
	return r, nil
}

// AskedMAC is the MAC address that a container was given for the network of its network mode; empty when it chose none.
func (s *Service) AskedMAC(id string) string {
	rec, err := s.recordOf(id)
	if err != nil {
		return ""
	}
	if e := rec.Networks[s.deps.NetworkName.Of(string(rec.HostConfig.NetworkMode))]; e != nil {
		return e.MacAddress.String()
	}
	return ""
}

func (h *handle) execIDs() []string {
	var ids []string
	h.execs.Range(func(k, v any) bool {
		e := v.(*execution)
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.running != nil || !e.started {
			ids = append(ids, k.(string))
		}
		return true
	})
	slices.Sort(ids)
	return ids
}

// ListRequest selects containers.
type ListRequest struct {
	All     bool
	Limit   int // 0: no limit
	Size    bool
	Filters map[string][]string
}

// List shows containers from their snapshots, newest first.
func (s *Service) List(ctx context.Context, r ListRequest) ([]listing.Item, error) {
	q, err := listing.Parse(r.Filters, listing.Lookups{Container: s.recordOf, Image: s.imageOf(ctx)})
	if err != nil {
		return nil, err
	}
	handles := s.index.All()
	recs, shown := make([]*core.Record, len(handles)), make([]*listing.Shown, len(handles))
	for i, h := range handles {
		shown[i] = listing.Show(&h.shown, h.record())
		recs[i] = shown[i].Record
	}
	picked, aliases, now := q.Select(shown, r.All, r.Limit), launch.Aliases(recs, s.recordOf), s.deps.Now()
	out, imageName := make([]listing.Item, len(picked)), listing.PerImage(func(rec *core.Record) string { return s.imageName(ctx, rec) })
	for i, p := range picked {
		out[i] = listing.Item{Shown: p, Image: imageName(p.Record), Aliases: aliases[p.Record.ID], Status: p.Record.State.Sentence(now)}
		if r.Size {
			if rw, root, err := s.deps.Images.Usage(ctx, p.Record.ID); err == nil {
				out[i].SizeRw, out[i].SizeRootFs = rw, root
			}
		}
	}
	return out, nil
}

func (s *Service) recordOf(ref string) (*core.Record, error) {
	h, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return h.record(), nil
}

func (s *Service) imageOf(ctx context.Context) func(ref string) (listing.Image, error) {
	return func(ref string) (listing.Image, error) {
		img, err := s.deps.Images.Resolve(ctx, ref, nil)
		return listing.Image{ID: img.ID, DiffIDs: img.Config.RootFS.DiffIDs}, err
	}
}

// imageName is the name a container was made from while it still means that image, else the image's ID.
func (s *Service) imageName(ctx context.Context, rec *core.Record) string {
	if img, err := s.deps.Images.Resolve(ctx, rec.Config.Image, nil); err == nil && img.ID == rec.Image.ID {
		return rec.Config.Image
	}
	return rec.Image.ID.String()
}
