package engineboot

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"longshore/internal/driver/bolt"
)

// verify looks through the databases before anything opens them. A damaged one ends the start, because to begin with an empty one
// would be to remove what it named: layers and containers. The build cache's are only ever a loss of time: they are put aside.
func (e *engine) verify() error {
	for _, name := range []string{"state.db", "metadata.db", "snapshots/metadata.db"} {
		if err := bolt.Verify(filepath.Join(e.cfg.DataRoot, name)); err != nil {
			return err
		}
	}
	root := filepath.Join(e.cfg.DataRoot, "buildkit")
	caches, err := filepath.Glob(filepath.Join(root, "*.db"))
	if err != nil {
		return err
	}
	for _, path := range caches {
		err := bolt.Verify(path)
		if !errors.Is(err, errdefs.ErrDataLoss) {
			continue // another failure is the builder's to tell, at the first build
		}
		e.log.Error("the build cache is put aside and begun anew", "kept", root+".damaged", "error", err)
		return errors.Join(os.RemoveAll(root+".damaged"), os.Rename(root, root+".damaged"))
	}
	return nil
}
