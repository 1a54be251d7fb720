package mounts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	core "longshore/internal/core/container"
	"longshore/internal/core/event"
	"longshore/internal/core/fault"
	"longshore/internal/core/image"
	"longshore/internal/core/volume"
)

// Files is what mounts need of the host's file system. Implemented by driver/containerfs.
type Files interface {
	// Exists tells whether a host path is there.
	Exists(path string) bool
	// MakeDir creates a directory and its parents, owned by root.
	MakeDir(path string) error
	// CopyUp fills the empty directory dst from what stands at target inside root, with owners, modes, times, extended
	// attributes and hard links. It does nothing when dst is not empty or root has no directory there. The owners of a
	// root that is shifted are translated back.
	CopyUp(ctx context.Context, root, target, dst string, shifted bool) error
	// Shift mounts source, seen through the mapping of the containers' user namespaces, for mount n of container id, and
	// answers where; source itself where its file system cannot be mounted so.
	Shift(id string, n int, source string) (string, error)
	// Place makes the directory that mount n of container id may be mounted at.
	Place(id string, n int) (string, error)
	// BindBelow mounts sub of dir, which no link may leave, for mount n of container id and answers where.
	BindBelow(id string, n int, dir, sub string) (string, error)
	// ClearPlaces unmounts and removes what Place and BindBelow made.
	ClearPlaces(id string) error
}

// Images are what image mounts need of images. Implemented by service/engine/images.
type Images interface {
	Resolve(ctx context.Context, ref string, platform *ocispec.Platform) (image.Image, error)
	// Use registers that user uses the image; Drop undoes it.
	Use(ctx context.Context, user string, img digest.Digest) error
	Drop(ctx context.Context, user string) error
	// View mounts an image's content, read-only, at an existing directory, for a container in a user namespace when
	// shifted. Idempotent.
	View(ctx context.Context, key string, img image.Image, target string, shifted bool) error
	// Unview undoes View.
	Unview(ctx context.Context, key, target string) error
}

// Resolver makes mounts real.
type Resolver struct {
	Volumes volume.Volumes
	Files   Files
	Images  Images
	Events  event.Publisher
}

// Hold creates or finds every volume that the container names and checks bind sources; the mounts get their sources.
// When it fails, whatever it took is given back.
func (r *Resolver) Hold(ctx context.Context, id string, list []core.Mount) (err error) {
	taken := 0
	defer func() {
		if err != nil {
			r.Drop(context.WithoutCancel(ctx), id, list[:taken], true)
		}
	}()
	for i := range list {
		m := &list[i]
		switch m.Type {
		case mount.TypeVolume:
			v, _, err := r.Volumes.Ensure(ctx, volume.CreateOptions{
				Name: m.Name, Driver: m.Driver, Labels: m.Labels, Options: m.DriverOptions, Anonymous: m.Anonymous && !m.Inherited,
			}, id)
			if err != nil {
				return err
			}
			m.Name, m.Source, m.Driver = v.Name, v.Mountpoint, v.Driver
			m.Labels, m.DriverOptions = nil, nil
		case mount.TypeImage:
			if err := r.holdImage(ctx, id, i, m); err != nil {
				return err
			}
		case mount.TypeBind:
			if !m.CreateSource && !m.Inherited && !r.Files.Exists(m.Source) {
				return fault.Invalid("invalid mount config for type %q: bind source path does not exist: %s", "bind", m.Source)
			}
		}
		taken = i + 1
	}
	return nil
}

// Drop releases the container's volumes; with remove, anonymous ones without another user go.
func (r *Resolver) Drop(ctx context.Context, id string, list []core.Mount, remove bool) {
	for i, m := range list {
		switch m.Type {
		case mount.TypeVolume:
			_ = r.Volumes.Release(ctx, m.Name, id, remove && m.Anonymous && !m.Inherited)
		case mount.TypeImage:
			_ = r.Images.Drop(ctx, imageKey(id, i))
		}
	}
}

// NeedsCopy tells whether Fill has anything to do.
func NeedsCopy(list []core.Mount) bool {
	for _, m := range list {
		if fillable(&m) {
			return true
		}
	}
	return false
}

func fillable(m *core.Mount) bool {
	return m.Type == mount.TypeVolume && !m.NoCopy && !m.Inherited
}

// Target is the container that volumes are filled for.
type Target struct {
	ID string
	// Root is where its root filesystem is mounted, Shifted for a user namespace.
	Root    string
	Shifted bool
}

// Fill copies the image's content into volumes that are empty, and into empty directories of volumes that mounts name.
func (r *Resolver) Fill(ctx context.Context, to Target, list []core.Mount) error {
	for i := range list {
		m := &list[i]
		if !fillable(m) {
			continue
		}
		v, err := r.Volumes.Mount(ctx, m.Name, to.ID)
		if err != nil {
			return err
		}
		dst, gone := r.part(place{to.ID, i, to.Shifted}, v.Mountpoint, m.Subpath)
		if gone == nil { // the start tells what is wrong with a subpath
			err = r.Files.CopyUp(ctx, to.Root, m.Destination, dst, to.Shifted)
		}
		if m.Subpath != "" {
			err = errors.Join(err, r.Files.ClearPlaces(to.ID))
		}
		if uerr := r.Volumes.Unmount(ctx, m.Name, to.ID); err == nil {
			err = uerr
		}
		if err != nil {
			return fmt.Errorf("failed to copy the image's content to volume %s: %w", m.Name, err)
		}
	}
	return nil
}

// Mount makes the volumes usable and missing bind sources for a run, tells of the volumes and answers the host path of
// each mount. A container in a user namespace (shifted) sees volumes and images, but no binds, through its mapping.
func (r *Resolver) Mount(ctx context.Context, id string, list []core.Mount, shifted bool) ([]string, error) {
	sources := make([]string, len(list))
	for i := range list {
		src, err := r.mountOne(ctx, place{id, i, shifted}, &list[i])
		if err != nil {
			r.Unmount(context.WithoutCancel(ctx), id, list[:i])
			return nil, err
		}
		sources[i] = src
	}
	for _, m := range list {
		r.tell(ctx, events.ActionMount, &m, map[string]string{
			"driver": m.Driver, "container": id, "destination": m.Destination,
			"read/write": strconv.FormatBool(m.RW), "propagation": string(m.Propagation),
		})
	}
	return sources, nil
}

// TellUnmounted publishes the end of what Mount told. Unmount itself may be called more often than there was a Mount.
func (r *Resolver) TellUnmounted(ctx context.Context, id string, list []core.Mount) {
	for _, m := range list {
		r.tell(ctx, events.ActionUnmount, &m, map[string]string{"driver": m.Driver, "container": id})
	}
}

func (r *Resolver) tell(ctx context.Context, a events.Action, m *core.Mount, attrs map[string]string) {
	if m.Type == mount.TypeVolume {
		r.Events.Publish(ctx, events.Message{
			Type: events.VolumeEventType, Action: a, Scope: "local", Actor: events.Actor{ID: m.Name, Attributes: attrs},
		})
	}
}

// place is mount n of a container.
type place struct {
	id      string
	n       int
	shifted bool
}

func (r *Resolver) mountOne(ctx context.Context, at place, m *core.Mount) (string, error) {
	switch m.Type {
	case mount.TypeVolume:
		v, err := r.Volumes.Mount(ctx, m.Name, at.id)
		if err != nil {
			return "", err
		}
		src, err := r.part(at, v.Mountpoint, m.Subpath)
		if err == nil && at.shifted {
			src, err = r.Files.Shift(at.id, at.n, src)
		}
		if err != nil {
			_ = r.Volumes.Unmount(ctx, m.Name, at.id)
		}
		return src, err
	case mount.TypeImage:
		return r.mountImage(ctx, at, m)
	case mount.TypeBind:
		if r.Files.Exists(m.Source) {
			return m.Source, nil
		}
		if !m.CreateSource {
			return "", fault.Invalid("invalid mount config for type %q: bind source path does not exist: %s", "bind", m.Source)
		}
		if err := r.Files.MakeDir(m.Source); err != nil {
			return "", fault.Invalid("error while creating mount source path '%s': %v", m.Source, err)
		}
		return m.Source, nil
	}
	return "", nil
}

// part is what a mount with a subpath binds instead of dir.
func (r *Resolver) part(at place, dir, sub string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	p, err := r.Files.BindBelow(at.id, at.n, dir, sub)
	if err != nil {
		return "", fault.Invalid("cannot access path %s: %v", filepath.Join(dir, sub), err)
	}
	return p, nil
}

// Unmount undoes Mount.
func (r *Resolver) Unmount(ctx context.Context, id string, list []core.Mount) {
	if len(list) > 0 {
		r.clear(ctx, id, list)
	}
	for _, m := range list {
		if m.Type == mount.TypeVolume {
			_ = r.Volumes.Unmount(ctx, m.Name, id)
		}
	}
}
