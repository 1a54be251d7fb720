package engineboot

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/core/idmap"
	"longshore/internal/driver/buildkit/remap"
	"longshore/internal/driver/ctdstore"
	"longshore/internal/driver/netns"
	"longshore/internal/driver/userns"
)

// remapRoot reads userns-remap. As with dockerd, a remapped engine keeps its state apart, in "<uid>.<gid>" below the data
// root, which the containers' root may enter; the configuration that it answers says so.
func remapRoot(cfg *engineconfig.Config) (*engineconfig.Config, *idmap.Map, error) {
	if cfg.UsernsRemap == "" {
		return cfg, nil, nil
	}
	m, err := userns.Remap(cfg.UsernsRemap)
	if err != nil {
		return nil, nil, err
	}
	uid, gid := m.Root()
	own := *cfg
	own.DataRoot = filepath.Join(cfg.DataRoot, fmt.Sprintf("%d.%d", uid, gid))
	err = os.MkdirAll(cfg.DataRoot, 0o711)
	if err == nil {
		err = os.MkdirAll(own.DataRoot, 0o710)
	}
	if err == nil {
		err = os.Chown(own.DataRoot, 0, gid)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("data root for user namespaces: %w", err)
	}
	return &own, m, nil
}

// makeShifter makes what mounts files for containers in user namespaces, and checks that this host can.
func (e *engine) makeShifter(down *closers) error {
	if e.ids == nil { // a daemon that was killed may have had one
		_ = unix.Unmount(e.shiftedDir(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		return nil
	}
	s, err := userns.NewShifter(e.ids)
	if err != nil {
		return err
	}
	down.add(s.Close)
	if err := s.Check(e.cfg.DataRoot); err != nil {
		return fmt.Errorf("userns-remap: %w", err)
	}
	e.shifter = s
	return nil
}

// shiftedDir is where the snapshots are mounted for containers in user namespaces.
func (e *engine) shiftedDir() string { return filepath.Join(e.cfg.ExecRoot, "shifted") }

// enter makes namespaces that belong to a user namespace of their own.
func (e *engine) enter(flags uintptr, f func(pid int) error) error {
	return userns.Enter(e.ids, flags, f)
}

// joinUser makes namespaces that belong to the user namespace at path.
func joinUser(path string) netns.Enter {
	return func(flags uintptr, f func(pid int) error) error { return userns.Join(path, flags, f) }
}

// securityOptions are what info tells of confinement.
func (e *engine) securityOptions(profile string) []string {
	opts := e.host.SecurityOptions(profile, e.cfg.NoNewPrivileges, e.host.Cgroup.Version == "2")
	if e.ids != nil {
		opts = append(opts, "name=userns")
	}
	return opts
}

// remapBuilds lets build steps run in user namespaces; nil without userns-remap.
func (e *engine) remapBuilds() remap.Remap {
	if e.shifter == nil {
		return nil
	}
	return buildRemap{e.shifter, e.store}
}

// buildRemap implements remap.Remap.
type buildRemap struct {
	*userns.Shifter
	store *ctdstore.Store
}

// Mount attaches a mount, seen through the mapping, at target.
func (r buildRemap) Mount(m mount.Mount, target string) error { return r.store.MountShifted(m, target) }

// hasUserNS tells whether a container lives in a user namespace.
func (e *engine) hasUserNS(hc *container.HostConfig) bool {
	return e.ids != nil && !hc.UsernsMode.IsHost()
}
