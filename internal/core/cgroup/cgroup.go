// Package cgroup is the contract for control groups, over the v1 hierarchies and the v2 tree alike.
package cgroup

import (
	"context"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Manager makes and finds groups by path ("/longshore/<container id>").
type Manager interface {
	// Version is "1" or "2", as docker info tells.
	Version() string
	// Driver is "cgroupfs" or "systemd".
	Driver() string
	// Create makes the group with limits; an existing one is reused and set anew.
	Create(ctx context.Context, path string, r *specs.LinuxResources) (Group, error)
	// Open finds an existing group, ErrNotFound otherwise.
	Open(ctx context.Context, path string) (Group, error)
}

// Group is one container's control group.
type Group interface {
	// Dirs are the absolute directories that a process must enter.
	Dirs() []string
	Update(ctx context.Context, r *specs.LinuxResources) error
	// Stats fills cpu_stats (without the previous sample), memory_stats, blkio_stats and pids_stats.
	Stats(ctx context.Context) (*container.StatsResponse, error)
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error
	// PIDs lists all processes, also of nested groups.
	PIDs(ctx context.Context) ([]int, error)
	// Remove kills what is left inside and removes the group; no error when it is gone.
	Remove(ctx context.Context) error
}
