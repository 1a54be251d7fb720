package engineboot

import (
	"context"
	"fmt"
	"io"

	"longshore/internal/boot/engineconfig"
	"longshore/internal/core/runtime"
	cgroupfs "longshore/internal/driver/cgroup"
	"longshore/internal/driver/hostcheck"
)

// Check writes what this host offers to containers, a line a check.
func Check(ctx context.Context, w io.Writer, cfg *engineconfig.Config) error {
	opts := hostcheck.Options{DataRoot: cfg.DataRoot}
	var err error
	if opts.Shim, err = shimPath(cfg.ShimPath); err != nil {
		fmt.Fprintf(w, "FAIL shim         %v\n", err)
	}
	if opts.Cgroups, err = cgroupfs.New(cgroupfs.Realtime{}); err != nil {
		fmt.Fprintf(w, "FAIL cgroups      %v\n", err)
	}
	for name, r := range cfg.Runtimes {
		opts.Runtimes = append(opts.Runtimes, runtime.Binary{Name: name, Path: r.Path, Args: r.Args})
	}
	return hostcheck.Run(ctx, w, opts)
}
