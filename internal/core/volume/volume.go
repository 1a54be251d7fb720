// Package volume is the contract for named storage that outlives containers.
package volume

import (
	"context"
	"time"
)

// Volume is a named directory.
type Volume struct {
	Name       string
	Driver     string // "local"
	Mountpoint string // absolute
	Labels     map[string]string
	Options    map[string]string
	Anonymous  bool
	CreatedAt  time.Time
}

// CreateOptions asks for a volume. An empty Name makes an anonymous one with a 64-hex name.
type CreateOptions struct {
	Name, Driver    string
	Labels, Options map[string]string
	Anonymous       bool
}

// Volumes is what containers need of volumes. Refs are container IDs; a volume with refs is not removed.
type Volumes interface {
	// Ensure creates the volume or returns the existing one of that name; created tells which. It adds ref.
	Ensure(ctx context.Context, o CreateOptions, ref string) (v Volume, created bool, err error)
	// Mount makes the volume usable at its Mountpoint (counted per ref, idempotent).
	Mount(ctx context.Context, name, ref string) (Volume, error)
	// Unmount undoes Mount.
	Unmount(ctx context.Context, name, ref string) error
	// Release drops ref; with remove, an anonymous volume without further refs is removed.
	Release(ctx context.Context, name, ref string, remove bool) error
}
