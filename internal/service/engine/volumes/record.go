package volumes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"longshore/internal/core/fault"
	"longshore/internal/core/state"
	"longshore/internal/core/volume"
	"longshore/internal/driver/localvolume"
)

// Buckets of the state store.
const (
	bucket      = "volumes"
	mountBucket = "volume-mounts"
)

// record is a volume on disk. Records are immutable: a changed one is a copy.
type record struct {
	Name      string            `json:"name"`
	Driver    string            `json:"driver"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`
	CreatedAt time.Time         `json:"created"`
	Refs      []string          `json:"refs,omitempty"` // container IDs, sorted
}

func newRecord(o volume.CreateOptions, now time.Time) *record {
	r := &record{
		Name: o.Name, Driver: driverName, Labels: maps.Clone(o.Labels), Options: maps.Clone(o.Options),
		Anonymous: o.Anonymous, CreatedAt: now.Round(0),
	}
	if o.Anonymous {
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[AnonymousLabel] = ""
	}
	return r
}

// withRef returns r itself when ref is there already.
func (r *record) withRef(ref string) *record {
	i, found := slices.BinarySearch(r.Refs, ref)
	if found || ref == "" {
		return r
	}
	next := *r
	next.Refs = slices.Insert(slices.Clone(r.Refs), i, ref)
	return &next
}

// withoutRef returns r itself when ref is not there.
func (r *record) withoutRef(ref string) *record {
	i, found := slices.BinarySearch(r.Refs, ref)
	if !found {
		return r
	}
	next := *r
	next.Refs = slices.Delete(slices.Clone(r.Refs), i, i+1)
	return &next
}

func (s *Service) volume(r *record) volume.Volume {
	return volume.Volume{
		Name: r.Name, Driver: r.Driver, Mountpoint: s.mountpoint(r.Name), Labels: maps.Clone(r.Labels),
		Options: maps.Clone(r.Options), Anonymous: r.Anonymous, CreatedAt: r.CreatedAt,
	}
}

func (s *Service) mountpoint(name string) string { return filepath.Join(s.dir, name, "_data") }

func (s *Service) save(ctx context.Context, r *record, d state.Durability) error {
	doc, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := s.store.Put(ctx, bucket, r.Name, doc, d); err != nil {
		return fmt.Errorf("save volume %q: %w", r.Name, err)
	}
	return nil
}

func checkDriver(o volume.CreateOptions) error {
	if o.Driver != "" && o.Driver != driverName {
		return fault.NotFound("create %s: error looking up volume plugin %s: plugin %q not found", o.Name, o.Driver, o.Driver)
	}
	return nil
}

// checkNew applies docker's rules for new volumes.
func checkNew(o volume.CreateOptions) error {
	if len(o.Name) == 1 {
		return fault.Invalid("create %s: volume name is too short, names should be at least two alphanumeric characters", o.Name)
	}
	if !validName(o.Name) {
		return fault.Invalid(`create %s: %q includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`, o.Name, o.Name)
	}
	if len(o.Name) > maxName {
		return fault.Invalid("create %s: volume name is too long, at most %d characters are allowed", o.Name, maxName)
	}
	if err := localvolume.Check(o.Options); err != nil {
		return fault.Invalid("create %s: %w", o.Name, err)
	}
	return nil
}

// maxName leaves room for the prefix of a directory that is being removed.
const maxName = 255 - removingLen

// validName is docker's rule, which keeps names from being paths.
func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return len(name) >= 2
}
