package hostcheck

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// InitBinary finds the program that is bound into containers as /sbin/docker-init: the configured one, else docker's own
// or a static tini, else our shim, which acts as one when called by that name (base/pidone). A dynamic tini is of no use:
// it finds no libraries in most images.
func InitBinary(configured, shim string) (string, error) {
	if configured != "" {
		path, err := exec.LookPath(configured)
		if err != nil {
			return "", fmt.Errorf("init path: %w", err)
		}
		return filepath.Abs(path)
	}
	for _, name := range []string{"docker-init", "/usr/libexec/docker/docker-init", "/usr/local/libexec/docker/docker-init", "/usr/lib/docker/docker-init", "tini-static"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.Abs(path)
		}
	}
	return filepath.Abs(shim)
}
