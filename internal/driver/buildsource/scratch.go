// Package buildsource brings the files of a build to the disk: scratch directories that outlive neither the build nor a
// crash, downloads, and git repositories. Addresses of the host itself are refused unless the configuration lets them.
package buildsource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Scratch makes the directories of builds below one of its own.
type Scratch struct{ root string }

// OpenScratch takes root for scratch directories and empties it: what lies there was left by a daemon that was killed.
func OpenScratch(root string) (*Scratch, error) {
	if err := remove(root); err != nil {
		return nil, fmt.Errorf("remove left build contexts: %w", err)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of build contexts: %w", err)
	}
	return &Scratch{root}, nil
}

// Dir makes a directory for one build.
func (s *Scratch) Dir() (string, error) {
	dir, err := os.MkdirTemp(s.root, "")
	if err != nil {
		return "", fmt.Errorf("make directory of a build context: %w", err)
	}
	return dir, nil
}

// Remove removes a directory of Dir with all that is in it. It is idempotent.
func (s *Scratch) Remove(dir string) error {
	if filepath.Dir(dir) != s.root {
		return fmt.Errorf("%s is no build context", dir)
	}
	return remove(dir)
}

// remove deletes a tree; directories that a client's archive made unreadable are opened first (root needs no such help).
func remove(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
