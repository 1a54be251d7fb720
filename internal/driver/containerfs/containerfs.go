// Package containerfs keeps the files that the engine itself makes for a container: its directory, the hosts, hostname
// and resolv.conf files, the shared memory mount and the directory that its root filesystem is mounted at.
//
//	<data>/containers/<id>/   hosts, hostname, resolv.conf, <id>-json.log, shm (a tmpfs, when shared),
//	                          mounts/ (parts of volumes and other images, while it runs)
//	<data>/rootfs/<id>/       the mount point of the root filesystem
//	<exec>/containers/<id>/   one run: bundle, sockets, exit record (made by the shim's launcher)
package containerfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"longshore/internal/core/idmap"
)

// Disk knows where everything is. Safe for concurrent use for different containers.
type Disk struct {
	containers, rootfs, runs string
	shift                    Shift // nil where containers have no user namespaces
}

// New makes the directories below the two roots.
func New(dataRoot, execRoot string) (*Disk, error) {
	d := &Disk{
		containers: filepath.Join(dataRoot, "containers"),
		rootfs:     filepath.Join(dataRoot, "rootfs"),
		runs:       filepath.Join(execRoot, "containers"),
	}
	for _, dir := range []string{d.containers, d.rootfs, d.runs} {
		if err := os.MkdirAll(dir, 0o710); err != nil {
			return nil, fmt.Errorf("make container directories: %w", err)
		}
	}
	return d, nil
}

// Shift is the mapping of containers' user namespaces. Implemented by driver/userns.
type Shift interface {
	IDs() *idmap.Map
	// Mount attaches what lies at source, seen through the mapping, at target.
	Mount(source, target string) error
}

// ShiftBy lets containers in user namespaces reach their files.
func (d *Disk) ShiftBy(s Shift) error {
	d.shift = s
	for _, dir := range []string{d.containers, d.rootfs, d.runs} {
		if err := d.own(dir, true); err != nil {
			return fmt.Errorf("container directories for user namespaces: %w", err)
		}
	}
	return nil
}

// own gives a file to the containers' root, or lets its group enter a directory.
func (d *Disk) own(path string, dir bool) error {
	if d.shift == nil {
		return nil
	}
	uid, gid := d.shift.IDs().Root()
	if dir {
		uid = 0
	}
	return os.Lchown(path, uid, gid)
}

// Dir is the container's directory.
func (d *Disk) Dir(id string) string { return filepath.Join(d.containers, id) }

// Rootfs is where the root filesystem is mounted.
func (d *Disk) Rootfs(id string) string { return filepath.Join(d.rootfs, id) }

// Run is the directory of the container's run.
func (d *Disk) Run(id string) string { return filepath.Join(d.runs, id) }

// Make creates the container's directory and its root's mount point.
func (d *Disk) Make(id string) error {
	if err := os.Mkdir(d.Dir(id), 0o710); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.own(d.Dir(id), true); err != nil {
		return err
	}
	if err := os.Mkdir(d.Rootfs(id), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Delete removes what Make made, with everything in it. Mounts must be gone; it never descends into one.
func (d *Disk) Delete(id string) error {
	if err := errors.Join(d.UnmountShm(id), d.ClearPlaces(id)); err != nil {
		return err
	}
	if err := os.Remove(d.Rootfs(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(d.Dir(id))
}

// Write replaces one of the container's small files in place, so that a bind mount of it shows the new text. It is
// skipped when nothing changed.
func (d *Disk) Write(id, name string, text []byte) error {
	p := filepath.Join(d.Dir(id), name)
	if old, err := os.ReadFile(p); err == nil && string(old) == string(text) {
		return nil
	}
	if err := os.WriteFile(p, text, 0o644); err != nil {
		return err
	}
	return d.own(p, false)
}

// MountShm mounts a tmpfs of size bytes for containers that share their memory, once, and answers its path.
func (d *Disk) MountShm(id string, size int64) (string, error) {
	p := filepath.Join(d.Dir(id), "shm")
	if err := os.Mkdir(p, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	if mounted(p) {
		return p, nil
	}
	opts := fmt.Sprintf("mode=1777,size=%d", size)
	if d.shift != nil {
		uid, gid := d.shift.IDs().Root()
		opts += fmt.Sprintf(",uid=%d,gid=%d", uid, gid)
	}
	if err := unix.Mount("shm", p, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return "", fmt.Errorf("mount shm of %s: %w", id, err)
	}
	return p, nil
}

// UnmountShm undoes MountShm; no error when nothing is mounted.
func (d *Disk) UnmountShm(id string) error {
	err := unix.Unmount(filepath.Join(d.Dir(id), "shm"), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// mounted tells whether p is a mount point: its device differs from its parent's.
func mounted(p string) bool {
	var a, b unix.Stat_t
	if unix.Lstat(p, &a) != nil || unix.Lstat(filepath.Dir(p), &b) != nil {
		return false
	}
	return a.Dev != b.Dev
}

// Found lists the IDs that have a directory of any of the three kinds, for the sweep at start.
func (d *Disk) Found() ([]string, error) {
	seen := map[string]bool{}
	for _, dir := range []string{d.containers, d.rootfs, d.runs} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() {
				seen[e.Name()] = true
			}
		}
	}
	ids := make([]string, 0, len(seen))
	for id := range seen {
		ids = append(ids, id)
	}
	return ids, nil
}

// Exists tells whether a host path is there.
func (d *Disk) Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// MakeDir creates a directory and its parents.
func (d *Disk) MakeDir(path string) error { return os.MkdirAll(path, 0o755) }

// openIn opens a path inside root with every link resolved inside root.
func openIn(root, path string) (*os.File, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), strings.TrimPrefix(path, "/"), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(root, path), Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// CopyUp fills the empty directory dst with what root has at target; see copyTree for what is kept. The owners of a root that
// is mounted for a user namespace are translated back: dst is not.
func (d *Disk) CopyUp(ctx context.Context, root, target, dst string, shifted bool) error {
	entries, err := os.ReadDir(dst)
	if errors.Is(err, unix.ENOTDIR) { // a file of a volume
		return nil
	}
	if err != nil || len(entries) > 0 {
		return err
	}
	src, err := openIn(root, target)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", src.Fd())
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		return err
	}
	c := copier{ctx: ctx, links: map[inode]string{}}
	if shifted && d.shift != nil {
		c.ids = d.shift.IDs()
	}
	return c.dir(path+"/.", dst)
}
