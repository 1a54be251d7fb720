package ocispec

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/symlink"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// lookupUser resolves docker's USER ("", "name", "uid", "name:group", "uid:gid") and extra groups by the container's own
// /etc/passwd and /etc/group, read without ever leaving the root filesystem.
func lookupUser(rootfs, spec string, groupAdd []string) (specs.User, error) {
	if u, ok := numericPair(spec); ok && len(groupAdd) == 0 {
		return u, nil
	}
	passwd, err := readInRoot(rootfs, "/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := readInRoot(rootfs, "/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	found, err := user.GetExecUser(spec, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, userError(err)
	}
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid), AdditionalGids: []uint32{uint32(found.Gid)}}
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	if len(groupAdd) == 0 {
		return u, nil
	}
	extra, err := user.GetAdditionalGroups(groupAdd, bytes.NewReader(group))
	if err != nil {
		return specs.User{}, userError(err)
	}
	slices.Sort(extra)
	for _, g := range extra {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return u, nil
}

// numericPair reads "uid:gid", where no file has anything to add.
func numericPair(spec string) (specs.User, bool) {
	u, g, ok := strings.Cut(spec, ":")
	uid, err1 := strconv.ParseUint(u, 10, 31)
	gid, err2 := strconv.ParseUint(g, 10, 31)
	if !ok || err1 != nil || err2 != nil {
		return specs.User{}, false
	}
	return specs.User{UID: uint32(uid), GID: uint32(gid), AdditionalGids: []uint32{uint32(gid)}}, true
}

// userError gives the well-known words for names that do not exist the class of a bad request.
func userError(err error) error { return fault.Invalid("%w", err) }

// maxAccounts bounds a passwd or group file; an image may contain anything.
const maxAccounts = 16 << 20

// readInRoot reads a regular file as a process chrooted into rootfs would see it; links cannot lead outside. What is
// missing or is no regular file (a pipe would block for ever) reads as empty.
func readInRoot(rootfs, name string) ([]byte, error) {
	f, err := openInRoot(rootfs, name)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return nil, nil
	case err != nil:
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxAccounts))
}

func openInRoot(rootfs, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	dir, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: rootfs, Err: err}
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.6
		path, serr := symlink.FollowSymlinkInScope(rootfs+name, rootfs)
		if serr != nil {
			return nil, serr
		}
		fd, err = unix.Open(path, flags|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
