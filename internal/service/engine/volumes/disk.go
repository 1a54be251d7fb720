package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"longshore/internal/base/ids"
	"longshore/internal/core/state"
	"longshore/internal/driver/localvolume"
)

// The directory of a volume that is being removed is called ".removing-<8 hex digits>-<name>": the digits let a new
// volume of the same name come and go while the old files are still being deleted. Volume names do not begin with a dot.
const (
	removingPrefix = ".removing-"
	removingLen    = len(removingPrefix) + 9
)

func removingName(name string) string { return removingPrefix + ids.New()[:8] + "-" + name }

// removedName is the inverse of removingName.
func removedName(dir string) (string, bool) {
	if !strings.HasPrefix(dir, removingPrefix) || len(dir) <= removingLen {
		return "", false
	}
	return dir[removingLen:], true
}

func (s *Service) makeDir(name string) error {
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o701); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "_data"), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// The umask does not decide who may enter a volume.
	return errors.Join(os.Chmod(dir, 0o701), os.Chmod(filepath.Join(dir, "_data"), 0o755))
}

// unmakeDir removes the directory of a volume if it is empty.
func (s *Service) unmakeDir(name string) {
	_ = os.Remove(s.mountpoint(name))
	_ = os.Remove(filepath.Join(s.dir, name))
}

// load reads the records and repairs the directories.
func (s *Service) load(ctx context.Context) error {
	err := s.store.Each(ctx, bucket, func(name string, doc []byte) error {
		r := &record{}
		if err := json.Unmarshal(doc, r); err != nil || r.Name != name {
			s.log.Error("volume: record cannot be read: labels and options are lost, the files stay", "volume", name, "error", err)
			*r = record{Name: name, Driver: driverName, CreatedAt: s.now()}
		}
		e := &entry{name: name}
		e.rec.Store(r)
		s.volumes[name] = e
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.loadMounts(ctx); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	present := map[string]bool{}
	for _, d := range entries {
		if name, ok := removedName(d.Name()); ok {
			if s.volumes[name] == nil {
				if err := os.RemoveAll(filepath.Join(s.dir, d.Name())); err != nil {
					return err
				}
				continue
			}
			// The record still stands: the removal was not finished and nobody was told that it was.
			if err := os.Rename(filepath.Join(s.dir, d.Name()), filepath.Join(s.dir, name)); err != nil {
				return err
			}
			present[name] = true
			continue
		}
		present[d.Name()] = true
		if s.volumes[d.Name()] == nil {
			if err := s.adopt(ctx, d); err != nil {
				return err
			}
		}
	}
	for name := range s.volumes {
		if !present[name] {
			s.log.Warn("volume: directory was missing", "volume", name)
			if err := s.makeDir(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt takes over a directory without a record if there is something in it, as dockerd does on the same root. An
// empty one is what a crash left of a creation.
func (s *Service) adopt(ctx context.Context, d fs.DirEntry) error {
	name := d.Name()
	data, err := os.ReadDir(s.mountpoint(name))
	if err != nil || !d.IsDir() || !validName(name) {
		return nil
	}
	options, err := foreignOptions(filepath.Join(s.dir, name, "opts.json"))
	if err != nil {
		s.log.Warn("volume: options of a directory without a record", "volume", name, "error", err)
		return nil
	}
	if len(data) == 0 && options == nil {
		s.unmakeDir(name)
		return nil
	}
	st, err := os.Stat(filepath.Join(s.dir, name))
	if err != nil {
		return err
	}
	r := &record{Name: name, Driver: driverName, Options: options, CreatedAt: st.ModTime()}
	if err := s.save(ctx, r, state.Durable); err != nil {
		return err
	}
	e := &entry{name: name}
	e.rec.Store(r)
	s.volumes[name] = e
	s.log.Info("volume: adopted", "volume", name)
	return nil
}

// foreignOptions reads dockerd's file of a local volume's options; nil when there is none.
func foreignOptions(path string) (map[string]string, error) {
	doc, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var o struct{ MountType, MountOpts, MountDevice string }
	if err := json.Unmarshal(doc, &o); err != nil {
		return nil, err
	}
	opts := map[string]string{}
	for k, v := range map[string]string{"type": o.MountType, "o": o.MountOpts, "device": o.MountDevice} {
		if v != "" {
			opts[k] = v
		}
	}
	return opts, nil
}

// loadMounts reads who had volumes mounted. What the kernel has lost since is forgotten.
func (s *Service) loadMounts(ctx context.Context) error {
	var stale []string
	err := s.store.Each(ctx, mountBucket, func(name string, doc []byte) error {
		e := s.volumes[name]
		if e == nil {
			stale = append(stale, name)
			return nil
		}
		mounted, err := localvolume.Mounted(s.mountpoint(name))
		if err != nil {
			return err
		}
		if !mounted {
			stale = append(stale, name)
			return nil
		}
		if err := json.Unmarshal(doc, &e.mounts); err != nil {
			s.log.Error("volume: record of its mounts cannot be read", "volume", name, "error", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("volume mounts: %w", err)
	}
	for _, name := range stale {
		if err := s.store.Delete(ctx, mountBucket, name, state.Volatile); err != nil {
			return err
		}
	}
	return nil
}
