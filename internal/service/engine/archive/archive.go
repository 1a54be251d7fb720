// Package archive copies files into and out of containers (docker cp), exports their root file systems and lists what
// they changed.
//
// A running container is seen as it sees itself, through its mount namespace: with its volumes, binds, tmpfs and
// whatever it mounted. A stopped one is shown with its volumes and binds mounted for the time of the operation.
package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"longshore/internal/base/ids"
	"longshore/internal/core/event"
	"longshore/internal/core/fault"
	"longshore/internal/core/idmap"
	"longshore/internal/core/volume"
	"longshore/internal/driver/tarfs"
)

// Containers is what archive needs of the container service.
type Containers interface {
	// WithRootFS calls f while the container's root file system is mounted at root; pid is its init's, 0 when it does
	// not run.
	WithRootFS(ctx context.Context, ref string, f func(root string, pid int, mounts []container.MountPoint) error) error
	// Lookup finds a container by name, ID or unambiguous short ID.
	Lookup(ref string) (id, name string, err error)
}

// Changer lists what a container changed in its root file system (core/image.RootFS has it).
type Changer interface {
	Changes(ctx context.Context, key string) ([]container.FilesystemChange, error)
}

// Mounter makes volumes usable (core/volume.Volumes has it).
type Mounter interface {
	Mount(ctx context.Context, name, ref string) (volume.Volume, error)
	Unmount(ctx context.Context, name, ref string) error
}

// Facts are what archive needs to know of a container's configuration.
type Facts struct {
	// User is Config.User, Image Config.Image.
	User, Image  string
	Labels       map[string]string
	ReadOnlyRoot bool
	// Shifted: the container has a user namespace.
	Shifted bool
}

// Deps are the parts that boot wires together.
type Deps struct {
	Containers Containers
	Changes    Changer
	Volumes    Mounter
	Events     event.Publisher
	// Shifter is nil where containers have no user namespaces.
	Shifter Shifter
	// Describe answers the facts of a container that Lookup found.
	Describe func(ctx context.Context, id string) (Facts, error)
}

// Service is safe for concurrent use.
type Service struct{ d Deps }

// Shifter makes mounts through the mapping of containers' user namespaces. Implemented by driver/userns.
type Shifter interface {
	IDs() *idmap.Map
	Tree(source string) (*os.File, error)
	Become() error
}

// shift is how the files of a container are seen.
func (s *Service) shift(ctx context.Context, id string) (tarfs.Shift, error) {
	if s.d.Shifter == nil {
		return tarfs.Shift{}, nil
	}
	facts, err := s.d.Describe(ctx, id)
	if err != nil || !facts.Shifted {
		return tarfs.Shift{}, err
	}
	return tarfs.Shift{IDs: s.d.Shifter.IDs(), Become: s.d.Shifter.Become}, nil
}

// New makes the service.
func New(d Deps) *Service { return &Service{d} }

// Stat describes a path in a container.
func (s *Service) Stat(ctx context.Context, ref, name string) (container.PathStat, error) {
	var st container.PathStat
	err := s.view(ctx, ref, func(_ string, r *tarfs.Root, _ []container.MountPoint) error {
		i, err := r.Stat(absolute(name))
		st = container.PathStat{Name: i.Name, Size: i.Size, Mode: i.Mode, Mtime: i.Mtime, LinkTarget: i.Target}
		return notFound(err, name, ref)
	})
	return st, err
}

// Get writes a tar of a path in a container to w and tells of it by an event: archive-path, or copy for the operation of
// that name before API 1.24.
func (s *Service) Get(ctx context.Context, ref, name string, told events.Action, w io.Writer) error {
	return s.view(ctx, ref, func(id string, r *tarfs.Root, _ []container.MountPoint) error {
		if err := r.Pack(ctx, absolute(name), w); err != nil {
			return notFound(err, name, ref)
		}
		return s.publish(ctx, id, told)
	})
}

// PutOptions are docker's for copying into a container.
type PutOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else and the other way round.
	NoOverwriteDirNonDir bool
	// CopyUIDGID gives what is unpacked to the container's user, where it has one.
	CopyUIDGID bool
}

// Put unpacks a tar, plain or compressed, in a directory of a container.
func (s *Service) Put(ctx context.Context, ref, name string, content io.Reader, o PutOptions) error {
	return s.view(ctx, ref, func(id string, r *tarfs.Root, mounts []container.MountPoint) error {
		facts, err := s.d.Describe(ctx, id)
		if err != nil {
			return err
		}
		real, err := r.Real(absolute(name))
		if err != nil {
			return notFound(err, name, ref)
		}
		if err := writable(real, mounts, facts.ReadOnlyRoot); err != nil {
			return err
		}
		u := tarfs.UnpackOptions{NoOverwriteDirNonDir: o.NoOverwriteDirNonDir}
		if o.CopyUIDGID && facts.User != "" {
			if u.Owner, err = r.User(facts.User); err != nil {
				return err
			}
		}
		if _, err := r.Stat(real); err != nil {
			return notFound(err, name, ref)
		}
		if err := r.Unpack(ctx, real, content, u); err != nil {
			if errors.Is(err, unix.EROFS) {
				return fault.Forbidden("container rootfs is marked read-only")
			}
			return err
		}
		return s.publish(ctx, id, events.ActionExtractToDir)
	})
}

// Export writes a tar of the root file system without volumes and binds.
func (s *Service) Export(ctx context.Context, ref string, w io.Writer) error {
	id, _, err := s.d.Containers.Lookup(ref)
	if err != nil {
		return err
	}
	return s.d.Containers.WithRootFS(ctx, id, func(root string, _ int, _ []container.MountPoint) error {
		shift, err := s.shift(ctx, id)
		if err != nil {
			return err
		}
		r, err := tarfs.Open(root)
		if err != nil {
			return err
		}
		defer r.Close()
		r.ShiftBy(shift)
		if err := r.PackAll(ctx, w); err != nil {
			return err
		}
		return s.publish(ctx, id, events.ActionExport)
	})
}

// Check tells whether the container exists.
func (s *Service) Check(ref string) error {
	_, _, err := s.d.Containers.Lookup(ref)
	return err
}

// Changes lists what the container changed, by path.
func (s *Service) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	id, _, err := s.d.Containers.Lookup(ref)
	if err != nil {
		return nil, err
	}
	list, err := s.d.Changes.Changes(ctx, id)
	if list == nil {
		list = []container.FilesystemChange{}
	}
	return list, err
}

// view opens the file system as the container sees it.
func (s *Service) view(ctx context.Context, ref string, f func(id string, r *tarfs.Root, mounts []container.MountPoint) error) error {
	id, _, err := s.d.Containers.Lookup(ref)
	if err != nil {
		return err
	}
	return s.d.Containers.WithRootFS(ctx, id, func(root string, pid int, mounts []container.MountPoint) error {
		shift, err := s.shift(ctx, id)
		if err != nil {
			return err
		}
		if pid > 0 {
			r, err := tarfs.OpenProcess(pid, root)
			if err == nil {
				defer r.Close()
				r.ShiftBy(shift)
				return f(id, r, mounts)
			}
			if !errors.Is(err, tarfs.ErrGone) {
				return err
			}
		}
		return s.stopped(ctx, place{root, shift}, mounts, func(r *tarfs.Root) error { return f(id, r, mounts) })
	})
}

// place is a mounted root file system and how its files are seen.
type place struct {
	root  string
	shift tarfs.Shift
}

// stopped mounts the volumes for as long as f runs, under a reference that is not the container's: it may start.
func (s *Service) stopped(ctx context.Context, at place, mounts []container.MountPoint, f func(*tarfs.Root) error) error {
	ref := "archive-" + ids.Short(ids.New())
	var binds []tarfs.Bind
	for _, m := range mounts {
		if m.Type != mount.TypeVolume && m.Type != mount.TypeBind {
			continue
		}
		b := tarfs.Bind{Source: m.Source, Destination: m.Destination, ReadOnly: !m.RW}
		if m.Type == mount.TypeVolume {
			if _, err := s.d.Volumes.Mount(ctx, m.Name, ref); err != nil {
				return err
			}
			defer func() { _ = s.d.Volumes.Unmount(context.WithoutCancel(ctx), m.Name, ref) }()
			if at.shift.IDs != nil {
				if tree, err := s.d.Shifter.Tree(m.Source); err == nil { // else it cannot be: seen as it is
					defer tree.Close()
					b.Tree = tree
				}
			}
		}
		binds = append(binds, b)
	}
	r, err := tarfs.OpenMounted(at.root, binds, at.shift)
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

func (s *Service) publish(ctx context.Context, id string, a events.Action) error {
	_, name, err := s.d.Containers.Lookup(id)
	if err != nil {
		return nil // removed meanwhile: nobody is left to tell about
	}
	facts, err := s.d.Describe(ctx, id)
	if err != nil {
		return nil
	}
	attributes := map[string]string{"name": strings.TrimPrefix(name, "/"), "image": facts.Image}
	for k, v := range facts.Labels {
		attributes[k] = v
	}
	s.d.Events.Publish(ctx, events.Message{Type: events.ContainerEventType, Action: a, Actor: events.Actor{ID: id, Attributes: attributes}})
	return nil
}

// absolute cleans a path but keeps what says "the directory itself": a slash or a dot at the end, or a dot and a slash.
func absolute(name string) string {
	clean := path.Join("/", name)
	switch {
	case name == ".", name == "./", strings.HasSuffix(name, "/."), strings.HasSuffix(name, "/./"):
		return strings.TrimSuffix(clean, "/") + "/."
	case strings.HasSuffix(name, "/") && clean != "/":
		return clean + "/"
	}
	return clean
}

// writable refuses what the container itself could not write. The innermost mount decides.
func writable(real string, mounts []container.MountPoint, readOnlyRoot bool) error {
	var in *container.MountPoint
	for i := range mounts {
		m := &mounts[i]
		dest := path.Clean(m.Destination)
		if (real == dest || strings.HasPrefix(real, strings.TrimSuffix(dest, "/")+"/")) && (in == nil || len(dest) > len(in.Destination)) {
			in = m
		}
	}
	switch {
	case in != nil && !in.RW:
		return fault.Forbidden("mounted volume is marked read-only")
	case in == nil && readOnlyRoot:
		return fault.Forbidden("container rootfs is marked read-only")
	}
	return nil
}

// notFound has docker's words for a path that is not there.
func notFound(err error, name, ref string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.NotFound("Could not find the file %s in container %s", name, ref)
	case errors.Is(err, unix.ENOTDIR):
		return fault.Invalid("not a directory: %s", name)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return fault.Invalid("%w", err)
	}
	return err
}
