package ctdstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/archive"
	cfs "github.com/containerd/continuity/fs"
	"golang.org/x/sys/unix"
)

// Change is one difference between a writable layer and what is below it.
type Change struct {
	Kind cfs.ChangeKind // add, modify or delete
	Path string         // absolute in the root filesystem
	info fs.FileInfo    // in the upper directory; nil for a deletion
}

// Changes lists what key's writable layer changed, sorted by path, a parent before its children.
func (s *Store) Changes(ctx context.Context, key string) ([]Change, error) {
	upper, lowers, err := s.dirs(ctx, key)
	if err != nil {
		return nil, err
	}
	d := differ{upper: upper, lowers: lowers}
	if err := d.walk(ctx, "."); err != nil {
		return nil, fmt.Errorf("compare root filesystem %s: %w", key, err)
	}
	return d.out, nil
}

// WriteDiff writes key's writable layer as a layer archive: OCI whiteouts for what was deleted.
func (s *Store) WriteDiff(ctx context.Context, key string, w io.Writer) error {
	upper, lowers, err := s.dirs(ctx, key)
	if err != nil {
		return err
	}
	d := differ{upper: upper, lowers: lowers}
	if err := d.walk(ctx, "."); err != nil {
		return fmt.Errorf("compare root filesystem %s: %w", key, err)
	}
	cw := archive.NewChangeWriter(w, upper)
	for _, c := range d.out {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.info != nil && c.info.Mode()&fs.ModeSocket != 0 {
			continue
		}
		err := cw.HandleChange(c.Kind, c.Path, c.info, nil)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone meanwhile: a container that was not paused
			return fmt.Errorf("write layer of %s: %w", key, err)
		}
	}
	return cw.Close()
}

func (s *Store) dirs(ctx context.Context, key string) (upper string, lowers []string, err error) {
	mounts, err := s.snaps.Mounts(ctx, key)
	if err != nil {
		return "", nil, fmt.Errorf("mounts of root filesystem %s: %w", key, err)
	}
	upper, err = upperDir(mounts)
	return upper, lowerDirs(mounts), err
}

// differ compares an overlayfs upper directory with its lower ones without mounting anything.
type differ struct {
	upper  string
	lowers []string
	out    []Change
}

// walk compares one directory and reports it itself only when it changed, or something directly in it was added or
// deleted: being the parent of a changed file is no change.
func (d *differ) walk(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(d.upper, dir))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	names, inUpper := make([]string, 0, len(entries)), map[string]fs.DirEntry{}
	for _, e := range entries {
		names, inUpper[e.Name()] = append(names, e.Name()), e
	}
	if d.opaque(dir) {
		for _, n := range lowerNames(d.lowers, dir) {
			if inUpper[n] == nil {
				names = append(names, n)
			}
		}
	}
	sort.Strings(names)
	for _, n := range names {
		path := filepath.Join(dir, n)
		if inUpper[n] == nil {
			d.add(cfs.ChangeKindDelete, path, nil)
			continue
		}
		info, err := inUpper[n].Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := d.entry(ctx, path, info); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) entry(ctx context.Context, path string, info fs.FileInfo) error {
	low := lookupLower(d.lowers, path)
	if isWhiteout(info) {
		if low.exists {
			d.add(cfs.ChangeKindDelete, path, nil)
		}
		return nil
	}
	if !info.IsDir() {
		var kind cfs.ChangeKind = cfs.ChangeKindAdd
		if low.exists {
			kind = cfs.ChangeKindModify
		}
		d.add(kind, path, info)
		return nil
	}
	at := len(d.out)
	switch {
	case !low.exists:
		d.add(cfs.ChangeKindAdd, path, info)
	case !low.info.IsDir() || !sameDir(info, low.info):
		d.add(cfs.ChangeKindModify, path, info)
	}
	said := len(d.out) > at
	if err := d.walk(ctx, path); err != nil || said {
		return err
	}
	for _, c := range d.out[at:] {
		if c.Kind != cfs.ChangeKindModify && filepath.Dir(c.Path) == "/"+path {
			d.out = append(d.out, Change{})
			copy(d.out[at+1:], d.out[at:])
			d.out[at] = Change{cfs.ChangeKindModify, "/" + path, info}
			break
		}
	}
	return nil
}

func (d *differ) add(kind cfs.ChangeKind, path string, info fs.FileInfo) {
	d.out = append(d.out, Change{kind, "/" + path, info})
}

func (d *differ) opaque(dir string) bool { return isOpaque(filepath.Join(d.upper, dir)) }

func sameDir(a, b fs.FileInfo) bool {
	sa, ok1 := a.Sys().(*syscall.Stat_t)
	sb, ok2 := b.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && a.Mode() == b.Mode() && sa.Uid == sb.Uid && sa.Gid == sb.Gid && a.ModTime().Equal(b.ModTime())
}

func isWhiteout(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && fi.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

func isOpaque(dir string) bool {
	var v [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", v[:])
	return err == nil && n == 1 && v[0] == 'y'
}

// lowered is what a path is in the merged lower directories.
type lowered struct {
	exists bool
	path   string
	info   fs.FileInfo
}

// lookupLower finds a relative path in the lower directories, topmost first, as overlayfs would: whiteouts hide what is
// below, so do opaque directories and files in the place of a parent.
func lookupLower(lowers []string, path string) lowered {
	parts := strings.Split(path, "/")
	for _, lower := range lowers {
		at, last := lower, false
		for i, p := range parts {
			at = filepath.Join(at, p)
			fi, err := os.Lstat(at)
			if err != nil {
				break
			}
			if isWhiteout(fi) {
				return lowered{}
			}
			if i == len(parts)-1 {
				return lowered{true, at, fi}
			}
			if !fi.IsDir() {
				return lowered{}
			}
			last = last || isOpaque(at)
		}
		if last {
			return lowered{}
		}
	}
	return lowered{}
}

// lowerNames lists a directory as the lower directories show it together.
func lowerNames(lowers []string, dir string) []string {
	seen := map[string]bool{}
	for _, lower := range lowers {
		entries, err := os.ReadDir(filepath.Join(lower, dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			seen[e.Name()] = true
		}
	}
	var out []string
	for n := range seen {
		if lookupLower(lowers, filepath.Join(dir, n)).exists {
			out = append(out, n)
		}
	}
	return out
}
