package ocispec

import "github.com/moby/moby/api/types/container"

// DefaultPaths are the paths that docker hides and write-protects in a container that says nothing about them, as
// inspect shows them.
func DefaultPaths() (masked, readonly []string) {
	hc := &container.HostConfig{}
	return maskedPaths(hc), readonlyPaths(hc)
}
