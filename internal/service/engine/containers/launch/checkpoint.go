package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/moby/moby/api/types/checkpoint"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

var checkpointName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// checkpoints is where a container's checkpoints are: in a directory that a client chose, or in the container's own.
func (l *Launcher) checkpoints(rec *core.Record, dir string) string {
	if dir != "" {
		return dir
	}
	return filepath.Join(l.Disk.Dir(rec.ID), "checkpoints")
}

// CheckCheckpoint refuses a name that is none.
func CheckCheckpoint(name string) error {
	if !checkpointName.MatchString(name) {
		return fault.Invalid("invalid checkpoint ID %q, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

// Checkpoint writes the state of a running container down.
func (l *Launcher) Checkpoint(ctx context.Context, rec *core.Record, r checkpoint.CreateRequest) error {
	if err := CheckCheckpoint(r.CheckpointID); err != nil {
		return err
	}
	if r.CheckpointDir != "" && !filepath.IsAbs(r.CheckpointDir) {
		return fault.Invalid("cannot checkpoint container %s: the checkpoint directory %s must be absolute", rec.Name, r.CheckpointDir)
	}
	dir := filepath.Join(l.checkpoints(rec, r.CheckpointDir), r.CheckpointID)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fault.Internal("cannot checkpoint container %s: %w", rec.Name, err)
	}
	switch err := os.Mkdir(dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return fault.Conflict("cannot checkpoint container %s: checkpoint with name %s already exists for container %s", rec.Name, r.CheckpointID, rec.Name)
	case err != nil:
		return fault.Internal("cannot checkpoint container %s: %w", rec.Name, err)
	}
	launch, err := l.launch(rec, rec.Run)
	if err == nil {
		err = l.Runtime.Checkpoint(ctx, launch, dir, r.Exit)
	}
	if err != nil {
		return errors.Join(fault.Internal("Cannot checkpoint container %s: %w", rec.Name, err), os.RemoveAll(dir))
	}
	return nil
}

// Checkpoints lists the checkpoints of a container by name.
func (l *Launcher) Checkpoints(rec *core.Record, dir string) ([]checkpoint.Summary, error) {
	entries, err := os.ReadDir(l.checkpoints(rec, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Invalid("%w", err)
	}
	list := []checkpoint.Summary{}
	for _, e := range entries {
		if e.IsDir() && checkpointName.MatchString(e.Name()) {
			list = append(list, checkpoint.Summary{Name: e.Name()})
		}
	}
	return list, nil
}

// FindCheckpoint is the directory of a checkpoint whose name CheckCheckpoint took.
func (l *Launcher) FindCheckpoint(rec *core.Record, dir, name string) (string, error) {
	path := filepath.Join(l.checkpoints(rec, dir), name)
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		return "", fault.NotFound("checkpoint %s does not exist for container %s", name, rec.Name)
	}
	return path, nil
}
