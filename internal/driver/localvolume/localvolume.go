// Package localvolume is the kernel's side of docker's "local" volume driver: the options type, o and device (what
// mount(8) calls -t, -o and the source), and the space that a volume takes.
package localvolume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"longshore/internal/core/fault"
)

// required lists for each known option which others it needs.
var required = map[string][]string{
	"device": {"type"},
	"type":   {"device"},
	"o":      {"device", "type"},
	"size":   nil,
}

// Check tells whether the options of a new volume can be meant, in docker's words.
func Check(opts map[string]string) error {
	names := make([]string, 0, len(opts))
	for name := range opts {
		if _, ok := required[name]; !ok {
			return fault.Invalid("invalid option: %q", name)
		}
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, other := range required[name] {
			if _, ok := opts[other]; !ok {
				return fault.Invalid("missing required option: %q", other)
			}
		}
	}
	if s, ok := opts["size"]; ok {
		if _, err := units.RAMInBytes(s); err != nil {
			return fault.Invalid("%w", err)
		}
	}
	return nil
}

// NeedsMount tells whether a volume with these options is a mount of its own.
func NeedsMount(opts map[string]string) bool { return opts["device"] != "" && opts["type"] != "" }

// Remote tells whether the options name a file system whose server may not answer, or such a one is mounted at target by another name.
func Remote(target string, opts map[string]string) bool {
	if remote(opts["type"]) {
		return true
	}
	if !NeedsMount(opts) {
		return false
	}
	found := false
	_, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		found = found || i.Mountpoint == target && remote(i.FSType)
		return true, found
	})
	return found || err != nil
}

func remote(kind string) bool {
	switch {
	case strings.HasPrefix(kind, "nfs"), strings.HasPrefix(kind, "cifs"), strings.HasPrefix(kind, "smb"), strings.HasPrefix(kind, "fuse"), kind == "ceph", kind == "9p":
		return true
	}
	return false
}

// Mount mounts what the options describe at target. A target that is a mount point already stays as it is.
func Mount(ctx context.Context, target string, opts map[string]string) error {
	if mounted, err := Mounted(target); err != nil || mounted {
		return err
	}
	flags, data := parseOptions(opts["o"])
	kind := opts["type"]
	device, data, err := resolve(ctx, kind, opts["device"], data)
	if err != nil {
		return err
	}
	if err := unix.Mount(device, target, kind, flags&^unix.MS_RDONLY|readonlyAtOnce(flags), data); err != nil {
		return mountError(device, target, flags, data, err)
	}
	if flags&unix.MS_BIND != 0 && flags&bindFlags != 0 {
		// A bind takes its other flags from the source; they are set in a second step.
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags&bindFlags, ""); err != nil {
			return errors.Join(mountError(device, target, flags, data, err), unix.Unmount(target, unix.MNT_DETACH))
		}
	}
	return nil
}

const bindFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME

func readonlyAtOnce(flags uintptr) uintptr {
	if flags&unix.MS_BIND != 0 {
		return 0
	}
	return flags & unix.MS_RDONLY
}

func mountError(device, target string, flags uintptr, data string, err error) error {
	s := fmt.Sprintf("mount %s:%s", device, target)
	if flags != 0 {
		s += fmt.Sprintf(", flags: 0x%x", flags)
	}
	if data != "" {
		s += ", data: " + withoutPassword(data)
	}
	return fmt.Errorf("failed to mount local volume: %s: %w", s, err)
}

// withoutPassword hides what answers and logs must not tell.
func withoutPassword(data string) string {
	opts := strings.Split(data, ",")
	for i, opt := range opts {
		if name, _, ok := strings.Cut(opt, "="); ok && (name == "password" || name == "pass") {
			opts[i] = name + "=********"
		}
	}
	return strings.Join(opts, ",")
}

// Unmount undoes Mount; a target that is no mount point is no error. A busy one is detached: its last user frees it.
func Unmount(target string) error {
	for {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EBUSY):
			err = unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: target, Err: err}
		}
	}
}

// Mounted tells whether target is a mount point, without asking the mounted file system.
func Mounted(target string) (bool, error) {
	found := false
	_, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		found = found || i.Mountpoint == target
		return true, found
	})
	return found, err
}

// flagNames are the options that mount(2) takes as bits; "no" versions clear them.
var flagNames = map[string]struct {
	bit   uintptr
	clear bool
}{
	"defaults": {0, false},
	"async":    {unix.MS_SYNCHRONOUS, true}, "sync": {unix.MS_SYNCHRONOUS, false},
	"atime": {unix.MS_NOATIME, true}, "noatime": {unix.MS_NOATIME, false},
	"bind": {unix.MS_BIND, false}, "rbind": {unix.MS_BIND | unix.MS_REC, false},
	"dev": {unix.MS_NODEV, true}, "nodev": {unix.MS_NODEV, false},
	"diratime": {unix.MS_NODIRATIME, true}, "nodiratime": {unix.MS_NODIRATIME, false},
	"dirsync": {unix.MS_DIRSYNC, false},
	"exec":    {unix.MS_NOEXEC, true}, "noexec": {unix.MS_NOEXEC, false},
	"mand": {unix.MS_MANDLOCK, false}, "nomand": {unix.MS_MANDLOCK, true},
	"relatime": {unix.MS_RELATIME, false}, "norelatime": {unix.MS_RELATIME, true},
	"remount": {unix.MS_REMOUNT, false},
	"ro":      {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
	"suid": {unix.MS_NOSUID, true}, "nosuid": {unix.MS_NOSUID, false},
	"private": {unix.MS_PRIVATE, false}, "rprivate": {unix.MS_PRIVATE | unix.MS_REC, false},
	"shared": {unix.MS_SHARED, false}, "rshared": {unix.MS_SHARED | unix.MS_REC, false},
	"slave": {unix.MS_SLAVE, false}, "rslave": {unix.MS_SLAVE | unix.MS_REC, false},
	"unbindable": {unix.MS_UNBINDABLE, false}, "runbindable": {unix.MS_UNBINDABLE | unix.MS_REC, false},
}

// parseOptions splits "ro,size=64m" into the bits and the rest for the file system.
func parseOptions(o string) (flags uintptr, data string) {
	var rest []string
	for _, opt := range strings.Split(o, ",") {
		f, ok := flagNames[opt]
		switch {
		case opt == "":
		case !ok:
			rest = append(rest, opt)
		case f.clear:
			flags &^= f.bit
		default:
			flags |= f.bit
		}
	}
	return flags, strings.Join(rest, ",")
}

// resolve replaces host names by addresses, as the kernel does not look names up: in addr=, and for CIFS without addr= in
// the device ("//host/share").
func resolve(ctx context.Context, kind, device, data string) (string, string, error) {
	if !strings.HasPrefix(kind, "nfs") && kind != "cifs" {
		return device, data, nil
	}
	told := false
	opts := strings.Split(data, ",")
	for i, opt := range opts {
		host, ok := strings.CutPrefix(opt, "addr=")
		if !ok || host == "" {
			continue
		}
		address, err := lookup(ctx, host)
		if err != nil {
			return "", "", err
		}
		opts[i], told = "addr="+address, true
	}
	if host, share, ok := strings.Cut(strings.TrimPrefix(device, "//"), "/"); kind == "cifs" && !told && ok && host != "" && strings.HasPrefix(device, "//") {
		address, err := lookup(ctx, host)
		if err != nil {
			return "", "", err
		}
		device = "//" + address + "/" + share
	}
	return device, strings.Join(opts, ","), nil
}

// lookup answers a host's address; of several the first IPv4 one, as dockerd chooses (servers' lists of hosts are written for it).
func lookup(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
	}
	if len(addrs) == 0 {
		return "", fmt.Errorf("error resolving passed in network volume address: no address for %s", host)
	}
	i := max(0, slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Unmap().Is4() }))
	return addrs[i].Unmap().String(), nil
}

// Usage sums up the bytes below dir; a file with several names counts once. What vanishes meanwhile is not counted.
func Usage(ctx context.Context, dir string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		if st, ok := info.Sys().(*unixStat); ok && st.Nlink > 1 {
			i := inode{uint64(st.Dev), st.Ino}
			if seen[i] {
				return nil
			}
			seen[i] = true
		}
		sum += info.Size()
		return nil
	})
	return sum, err
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
