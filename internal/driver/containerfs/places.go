package containerfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Places are mount points of a container's own, below its directory: what is mounted there first (a part of a volume,
// another image) is what the runtime then binds.

func (d *Disk) places(id string) string { return filepath.Join(d.Dir(id), "mounts") }

// Place makes the directory that mount n of a container may be mounted at, and answers its path.
func (d *Disk) Place(id string, n int) (string, error) {
	p := filepath.Join(d.places(id), strconv.Itoa(n))
	if err := os.MkdirAll(p, 0o711); err != nil {
		return "", err
	}
	return p, nil
}

// errEscapes is docker's message for a link that leads out of a volume.
var errEscapes = errors.New("path concatenation escapes the base directory")

// BindBelow mounts what sub is inside dir at a place for mount n of the container and answers that. No link on the way
// may lead out of dir, and what a container changes in dir meanwhile changes nothing: the mount is of the very file that
// was found. Nothing of what is mounted below it comes along.
func (d *Disk) BindBelow(id string, n int, dir, sub string) (string, error) {
	f, err := openBeneath(dir, sub)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := os.Stat(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return "", err
	}
	p := filepath.Join(d.places(id), strconv.Itoa(n)+"-part")
	if err := makePlace(p, st.IsDir()); err != nil {
		return "", err
	}
	for unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil { // left by a run that was not taken down
		continue
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), p, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("bind %s: %w", filepath.Join(dir, sub), err)
	}
	return p, nil
}

// Shift mounts source, seen through the mapping of the containers' user namespaces, at a place for mount n of a container and
// answers that. Some file systems (NFS, FUSE) cannot be mounted so: their answer is source itself, whose files then belong
// to nobody unless their owners are mapped.
func (d *Disk) Shift(id string, n int, source string) (string, error) {
	if d.shift == nil {
		return source, nil
	}
	st, err := os.Stat(source)
	if err != nil {
		return "", err
	}
	p := filepath.Join(d.places(id), strconv.Itoa(n)+"-shifted")
	if err := makePlace(p, st.IsDir()); err != nil {
		return "", err
	}
	for unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		continue
	}
	err = d.shift.Mount(source, p)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		return source, nil
	}
	return p, err
}

// makePlace makes the mount point for a directory or for a file.
func makePlace(p string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(p), 0o711); err != nil {
		return err
	}
	if st, err := os.Lstat(p); err == nil && st.IsDir() != dir {
		for unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
			continue
		}
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	if dir {
		return os.MkdirAll(p, 0o711)
	}
	f, err := os.OpenFile(p, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// ClearPlaces unmounts and removes all places of a container; no error when there are none.
func (d *Disk) ClearPlaces(id string) error {
	entries, err := os.ReadDir(d.places(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for i := len(entries) - 1; i >= 0; i-- { // a part before what it is a part of
		p := filepath.Join(d.places(id), entries[i].Name())
		for unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
			continue
		}
		errs = append(errs, os.Remove(p))
	}
	return errors.Join(append(errs, os.Remove(d.places(id)))...)
}

// openBeneath opens a path below dir; a link that leads out of dir is an error, also one that is put there meanwhile.
func openBeneath(dir, sub string) (*os.File, error) {
	base, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	fd, err := unix.Openat2(int(base.Fd()), filepath.Clean(sub), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.EXDEV):
		return nil, errEscapes
	case err != nil:
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(dir, sub), Err: err}
	}
	return os.NewFile(uintptr(fd), sub), nil
}
