// Package projectquota bounds how much may be written below a directory, by the project quotas of the file system: xfs
// mounted with "pquota", ext4 made with "-O quota,project" and mounted with "prjquota".
//
// A directory becomes part of a project, which new files below it inherit; the kernel then refuses what goes beyond the
// project's limit (EDQUOT). Neither daemon nor container has to run for that, and nothing has to be undone: a project
// without files limits nothing.
package projectquota

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Quota is the kernel's quotas, for those who take them as an interface.
type Quota struct{}

// Supported is Supported.
func (Quota) Supported(dir string) error { return Supported(dir) }

// Limit is Limit.
func (Quota) Limit(project uint32, size uint64, dirs ...string) error {
	return Limit(project, size, dirs...)
}

// ErrUnsupported says that the file system has no project quotas that are enforced.
var ErrUnsupported = errors.New("the file system has no project quotas")

// From linux/dqblk_xfs.h, linux/quota.h and linux/fs.h.
const (
	projectKind  = 2              // PRJQUOTA
	getState     = ('X' << 8) | 5 // Q_XGETQSTAT
	setLimits    = ('X' << 8) | 4 // Q_XSETQLIM
	getLimits    = ('X' << 8) | 3 // Q_XGETQUOTA
	accounted    = 1 << 4         // FS_QUOTA_PDQ_ACCT
	enforced     = 1 << 5         // FS_QUOTA_PDQ_ENFD
	version      = 1              // FS_DQUOT_VERSION
	projectFlag  = 2              // FS_PROJ_QUOTA
	blockLimits  = 1<<2 | 1<<3    // FS_DQ_BSOFT, FS_DQ_BHARD
	getAttrs     = 0x801c581f     // FS_IOC_FSGETXATTR
	setAttrs     = 0x401c5820     // FS_IOC_FSSETXATTR
	inherit      = 0x200          // FS_XFLAG_PROJINHERIT
	blockSize    = 512            // bytes per block of a limit
	limitsLength = 112            // of struct fs_disk_quota
)

// attrs is struct fsxattr.
type attrs struct {
	flags, extent, extents, project, cowExtent uint32
	_                                          [8]byte
}

// Supported answers nil when directories of the file system that dir lies on can be bounded, else an error that wraps
// ErrUnsupported.
func Supported(dir string) error {
	var state [128]byte
	if err := quotactl(dir, getState, 0, unsafe.Pointer(&state)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnsupported, dir, err)
	}
	if flags := binary.NativeEndian.Uint16(state[2:]); flags&(accounted|enforced) != accounted|enforced {
		return fmt.Errorf("%w: %s: they are not enforced (mount option pquota or prjquota)", ErrUnsupported, dir)
	}
	return nil
}

// Limit makes dirs, which lie on one file system, the project of that number and bounds it to size bytes; 0 takes the
// bound away. What is in them already is not counted.
func Limit(project uint32, size uint64, dirs ...string) error {
	if err := Supported(dirs[0]); err != nil {
		return err
	}
	limits := encode(project, size)
	if err := quotactl(dirs[0], setLimits, project, unsafe.Pointer(&limits)); err != nil {
		return fmt.Errorf("set limit of project %d: %w", project, err)
	}
	for _, dir := range dirs {
		if err := assign(dir, project); err != nil {
			return fmt.Errorf("make %s part of project %d: %w", dir, project, err)
		}
	}
	return nil
}

// encode is struct fs_disk_quota with the bounds on blocks.
func encode(project uint32, size uint64) (b [limitsLength]byte) {
	b[0], b[1] = version, projectFlag
	binary.NativeEndian.PutUint16(b[2:], blockLimits)
	binary.NativeEndian.PutUint32(b[4:], project)
	blocks := (size + blockSize - 1) / blockSize
	binary.NativeEndian.PutUint64(b[8:], blocks)
	binary.NativeEndian.PutUint64(b[16:], blocks)
	return b
}

// Bound is the limit in bytes of the project that dir belongs to; 0 without.
func Bound(dir string) (uint64, error) {
	project, err := Project(dir)
	if err != nil || project == 0 {
		return 0, err
	}
	var limits [limitsLength]byte
	if err := quotactl(dir, getLimits, project, unsafe.Pointer(&limits)); err != nil {
		return 0, fmt.Errorf("limit of project %d: %w", project, err)
	}
	return binary.NativeEndian.Uint64(limits[8:]) * blockSize, nil
}

// Project is the number of the project that dir belongs to; 0 for none.
func Project(dir string) (uint32, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var a attrs
	err = ioctl(f, getAttrs, &a)
	return a.project, err
}

func assign(dir string, project uint32) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	var a attrs
	if err := ioctl(f, getAttrs, &a); err != nil {
		return err
	}
	a.project, a.flags = project, a.flags|inherit
	return ioctl(f, setAttrs, &a)
}

func ioctl(f *os.File, request uintptr, a *attrs) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(a))); errno != 0 {
		return errno
	}
	return nil
}

// quotactl asks for the file system that dir lies on, without its block device's name (Linux 5.14).
func quotactl(dir string, command, id uint32, data unsafe.Pointer) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(command<<8|projectKind), uintptr(id), uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
