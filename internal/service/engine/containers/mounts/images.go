package mounts

import (
	"context"
	"fmt"
	"strconv"

	"github.com/moby/moby/api/types/mount"

	core "longshore/internal/core/container"
)

// imageKey names the use of an image by mount n of a container: "<container ID>/<n>".
func imageKey(id string, n int) string { return fmt.Sprintf("%s/%d", id, n) }

// ImageAt is the reference that mount n was asked with.
func ImageAt(list []core.Mount, n string) string {
	if i, err := strconv.Atoi(n); err == nil && i >= 0 && i < len(list) {
		return list[i].Source
	}
	return ""
}

// holdImage finds the image of a mount and keeps it from being removed.
func (r *Resolver) holdImage(ctx context.Context, id string, n int, m *core.Mount) error {
	img, err := r.Images.Resolve(ctx, m.Source, nil)
	if err != nil {
		return err
	}
	m.Name = img.ID.String()
	return r.Images.Use(ctx, imageKey(id, n), img.ID)
}

// Restore registers again which images the mounts of a container use, when the daemon starts.
func (r *Resolver) Restore(ctx context.Context, id string, list []core.Mount) {
	for i, m := range list {
		if m.Type != mount.TypeImage {
			continue
		}
		if img, err := r.Images.Resolve(ctx, m.Name, nil); err == nil {
			_ = r.Images.Use(ctx, imageKey(id, i), img.ID)
		}
	}
}

// mountImage mounts the content of another image for a run and answers where.
func (r *Resolver) mountImage(ctx context.Context, at place, m *core.Mount) (string, error) {
	img, err := r.Images.Resolve(ctx, m.Name, nil)
	if err != nil {
		return "", err
	}
	dir, err := r.Files.Place(at.id, at.n)
	if err != nil {
		return "", err
	}
	if err := r.Images.View(ctx, imageKey(at.id, at.n), img, dir, at.shifted); err != nil {
		return "", err
	}
	src, err := r.part(at, dir, m.Subpath)
	if err != nil {
		_ = r.Images.Unview(ctx, imageKey(at.id, at.n), dir)
	}
	return src, err
}

// clear takes down the places that mounts of a run had.
func (r *Resolver) clear(ctx context.Context, id string, list []core.Mount) {
	_ = r.Files.ClearPlaces(id)
	for i, m := range list {
		if m.Type == mount.TypeImage {
			_ = r.Images.Unview(ctx, imageKey(id, i), "")
		}
	}
}
