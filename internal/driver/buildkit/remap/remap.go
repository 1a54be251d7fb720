// Package remap lets build steps run in user namespaces (--userns-remap): a step sees its root and its mounts through the mapping.
package remap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/executor"
	bknet "github.com/moby/buildkit/util/network"
	"github.com/moby/sys/mountinfo"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/idmap"
)

// Remap is the mapping and what mounts through it. What lies on disk carries the namespace's own numbers, so that BuildKit's own
// work on files does without.
type Remap interface {
	IDs() *idmap.Map
	// Mount attaches a mount, with all its layers seen through the mapping, at target.
	Mount(m mount.Mount, target string) error
	// As runs f as the namespace's root, whom files can belong to, on a thread of its own.
	As(f func() error) error
}

// Identities is the mapping in BuildKit's form; nil without one.
func Identities(r Remap) *user.IdentityMapping {
	if r == nil {
		return nil
	}
	list := func(ranges []idmap.Range) []user.IDMap {
		out := make([]user.IDMap, len(ranges))
		for i, r := range ranges {
			out[i] = user.IDMap{ID: int64(r.Inside), ParentID: int64(r.Outside), Count: int64(r.Size)}
		}
		return out
	}
	return &user.IdentityMapping{UIDMaps: list(r.IDs().UIDs), GIDMaps: list(r.IDs().GIDs)}
}

// Shifts are the mounts of steps that run. Two steps that share a cache share its mount too: overlayfs forbids to work
// on the same files through two.
type Shifts struct {
	Remap
	dir string // steps' files; the namespace's root may pass through

	mu   sync.Mutex // guards held
	held map[string]*shift
}

type shift struct {
	target string
	users  int
}

// New keeps mounts in dir, which the namespace's root may pass through; nil without a mapping.
func New(r Remap, dir string) *Shifts {
	if r == nil {
		return nil
	}
	return &Shifts{Remap: r, dir: dir, held: map[string]*shift{}}
}

// Step has a step's root and mounts seen through the mapping.
func (s *Shifts) Step(root executor.Mount, mounts []executor.Mount, cwd string) (executor.Mount, []executor.Mount) {
	root.Src = shifted{Mountable: root.Src, shifts: s, cwd: cwd}
	mounts = slices.Clone(mounts)
	for i := range mounts {
		if mounts[i].Src != nil {
			mounts[i].Src = shifted{Mountable: mounts[i].Src, shifts: s}
		}
	}
	return root, mounts
}

// take mounts m, unless it is mounted already, and answers where.
func (s *Shifts) take(m mount.Mount) (target string, give func() error, err error) {
	key := strings.Join(append([]string{m.Type, m.Source}, m.Options...), "\x00")
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[key]
	if h == nil {
		if h, err = s.mount(m); err != nil {
			return "", nil, err
		}
		s.held[key] = h
	}
	h.users++
	return h.target, sync.OnceValue(func() error { return s.give(key) }), nil
}

func (s *Shifts) give(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[key]
	if h.users--; h.users > 0 {
		return nil
	}
	delete(s.held, key)
	return errors.Join(os.NewSyscallError("unmount", unix.Unmount(h.target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)), os.Remove(h.target))
}

func (s *Shifts) mount(m mount.Mount) (*shift, error) {
	target, err := s.place(m)
	if err != nil {
		return nil, err
	}
	m, err = withLayers(m)
	if err == nil {
		err = s.Mount(m, target)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mount for a user namespace: %w", err), os.Remove(target))
	}
	return &shift{target: target}, nil
}

// place makes what m is mounted on: a file for a file, as secrets are.
func (s *Shifts) place(m mount.Mount) (string, error) {
	if m.Type == "bind" {
		if st, err := os.Stat(m.Source); err == nil && !st.IsDir() {
			f, err := os.CreateTemp(s.dir, "shifted-")
			if err != nil {
				return "", err
			}
			return f.Name(), f.Close()
		}
	}
	return os.MkdirTemp(s.dir, "shifted-")
}

// withLayers turns a bind of an overlay mount, which BuildKit makes of what may be shared, into that overlay: overlayfs
// itself cannot be seen through a mapping, its layers can.
func withLayers(m mount.Mount) (mount.Mount, error) {
	if m.Type != "bind" {
		return m, nil
	}
	at, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(m.Source))
	if err != nil || len(at) == 0 || at[len(at)-1].FSType != "overlay" {
		return m, err
	}
	return mount.Mount{Type: "overlay", Source: "overlay", Options: layers(at[len(at)-1].VFSOptions)}, nil
}

// layers are the mount options that make the overlay mount with the given options of its superblock once more. Lower
// directories may be relative to the directory of all snapshots.
func layers(options string) (out []string) {
	var all string // above "<snapshot>/fs"
	for _, o := range strings.Split(options, ",") {
		if upper, ok := strings.CutPrefix(o, "upperdir="); ok {
			all = filepath.Dir(filepath.Dir(upper))
		}
	}
	for _, o := range strings.Split(options, ",") {
		switch name, value, _ := strings.Cut(o, "="); name {
		case "lowerdir":
			dirs := strings.Split(value, ":")
			for i, d := range dirs {
				if !filepath.IsAbs(d) {
					dirs[i] = filepath.Join(all, d)
				}
			}
			out = append(out, "lowerdir="+strings.Join(dirs, ":"))
		case "upperdir", "workdir", "index", "userxattr":
			out = append(out, o)
		}
	}
	return out
}

// shifted is a mountable that is seen through the mapping. cwd is a directory that it must have; empty: none.
type shifted struct {
	executor.Mountable
	shifts *Shifts
	cwd    string
}

// Mount implements BuildKit's executor.Mountable.
func (s shifted) Mount(ctx context.Context, readonly bool) (executor.MountableRef, error) {
	ref, err := s.Mountable.Mount(ctx, readonly)
	if err != nil {
		return nil, err
	}
	return shiftedRef{ref, s}, nil
}

type shiftedRef struct {
	executor.MountableRef
	of shifted
}

// IdentityMapping implements BuildKit's executor.MountableRef.
func (r shiftedRef) IdentityMapping() *user.IdentityMapping { return Identities(r.of.shifts) }

// Mount implements BuildKit's executor.MountableRef.
func (r shiftedRef) Mount() (_ []mount.Mount, _ func() error, err error) {
	mounts, release, err := r.MountableRef.Mount()
	if err != nil {
		return nil, nil, err
	}
	undo := []func() error{}
	if release != nil {
		undo = append(undo, release)
	}
	end := func() error {
		var errs []error
		for _, f := range slices.Backward(undo) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	out := slices.Clone(mounts)
	for i, m := range out {
		if m.Type != "bind" && m.Type != "overlay" {
			continue // a tmpfs: the runtime makes it inside
		}
		target, give, err := r.of.shifts.take(m)
		if err != nil {
			return nil, nil, errors.Join(err, end())
		}
		undo = append(undo, give)
		out[i] = mount.Mount{Type: "bind", Source: target, Options: []string{"rbind"}}
		if m.Type == "bind" {
			out[i].Options = m.Options
		}
		if r.of.cwd != "" {
			if err := r.of.shifts.directory(target, r.of.cwd); err != nil {
				return nil, nil, errors.Join(err, end())
			}
		}
	}
	return out, end, nil
}

// directory makes a step's working directory where it is missing: the host's root could make none.
func (s *Shifts) directory(root, cwd string) error {
	path, err := fs.RootPath(root, cwd)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return s.As(func() error { return os.MkdirAll(path, 0o755) })
}

// HostNetwork is the host's network for steps in user namespaces, which cannot mount its sysfs.
type HostNetwork struct{ bknet.Provider }

// New implements BuildKit's network.Provider.
func (h HostNetwork) New(ctx context.Context, hostname string, o bknet.NamespaceOptions) (bknet.Namespace, error) {
	ns, err := h.Provider.New(ctx, hostname, o)
	return hostNamespace{ns}, err
}

type hostNamespace struct{ bknet.Namespace }

// Set implements BuildKit's network.Namespace.
func (h hostNamespace) Set(spec *specs.Spec) error {
	for i, m := range spec.Mounts {
		if m.Type == "sysfs" {
			spec.Mounts[i] = specs.Mount{Destination: m.Destination, Type: "bind", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
		}
	}
	return h.Namespace.Set(spec)
}
