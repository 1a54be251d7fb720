package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
)

// sweepLimit bounds how long one dead step's container may take to go.
const sweepLimit = 30 * time.Second

// Sweep removes what a killed engine's builds left: containers of steps, mounts, files, leases. The cache stays. Call it
// before the first build and before the networks of dead containers are swept.
func (b *Builder) Sweep(ctx context.Context) error {
	root := b.cfg.executorRoot()
	entries, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for dead build steps: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(root, e.Name(), "config.json")); err == nil {
			errs = append(errs, b.removeStep(ctx, e.Name()))
		}
	}
	errs = append(errs, unmountBelow(b.cfg.Root), clearOut(root), clearOut(b.cfg.Temp))
	s := newSteps(b.cfg.cgroupParent(), nil)
	s.begin()
	s.end()
	return errors.Join(append(errs, b.sweepLeases(ctx))...)
}

// removeStep kills a step's container and makes the runtime forget it.
func (b *Builder) removeStep(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, b.cfg.Runtime, "delete", "--force", id).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "does not exist") {
		return fmt.Errorf("remove build step %s: %w: %s", id, err, strings.TrimSpace(string(out)))
	}
	b.cfg.Log.Info("removed a build step that a dead engine left", "step", id)
	return nil
}

// unmountBelow detaches every mount below a directory, the deepest first.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	slices.SortFunc(mounts, func(a, b *mountinfo.Info) int { return len(b.Mountpoint) - len(a.Mountpoint) })
	var errs []error
	for _, m := range mounts {
		if m.Mountpoint == dir {
			continue
		}
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %q: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// clearOut removes everything in a directory, unless something is mounted there that will not go.
func clearOut(dir string) error {
	if dir == "" {
		return nil
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// sweepLeases deletes the leases of operations that died; those of the cache's records stay.
func (b *Builder) sweepLeases(ctx context.Context) error {
	lm := newLeaseManager(b.deps.Store.Metadata(), names{b.deps.Store})
	for _, ns := range []string{namespace, namespace + "_history"} {
		nctx := namespaces.WithNamespace(ctx, ns)
		stale, err := lm.List(nctx, `labels."buildkit/lease.temporary"`)
		if err != nil {
			return fmt.Errorf("list leases of builds: %w", err)
		}
		for _, l := range stale {
			if err := lm.Delete(nctx, leases.Lease{ID: l.ID}); err != nil {
				return fmt.Errorf("delete stale lease %s: %w", l.ID, err)
			}
		}
	}
	return nil
}
